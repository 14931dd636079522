// Copies the page's address. Where the app is reached without https from another machine, browsers keep their clipboard
// from pages, and the older command does it.

const SHOWN = 2000 // milliseconds

function byCommand(text) {
  const field = document.createElement("textarea")
  field.value = text
  field.style.position = "fixed"
  document.body.appendChild(field)
  field.select()
  const copied = document.execCommand("copy")
  field.remove()
  return copied
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text)
    return true
  } catch {
    return byCommand(text)
  }
}

export default function (component) {
  const button = component.parentElement.querySelector("button")
  const said = component.parentElement.querySelector("[role=status]")
  button.onclick = async () => {
    said.textContent = (await copy(location.href)) ? "Copied" : "Not copied: take it from the address bar"
    setTimeout(() => (said.textContent = ""), SHOWN)
  }
}
