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

// What was said last, and until when. It is the window's: a rerun puts a new button in the old one's place, perhaps
// between the click and the answer, and the answer is shown there.
const told = (window.studioCopied ??= { text: "", until: 0 })

function show() {
  const left = told.until - Date.now()
  for (const said of document.querySelectorAll(".studio-copy [role=status]")) said.textContent = left > 0 ? told.text : ""
  if (left > 0) setTimeout(show, left)
}

export default function (component) {
  const button = component.parentElement.querySelector("button")
  button.onclick = async () => {
    told.text = (await copy(location.href)) ? "Copied" : "Not copied: take it from the address bar"
    told.until = Date.now() + SHOWN
    show()
  }
  button.disabled = false // only now does it answer
  show()
}
