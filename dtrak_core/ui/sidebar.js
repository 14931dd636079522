// Closes the sidebar when a link in it was followed on a narrow screen, which it covers: Streamlit closes it only for
// its own navigation. Its button is pressed, so that Streamlit also remembers the sidebar as closed.
//
// And has the browser read the library of charts, which takes it a second, once the first page has come to rest.

const NARROW = 768 // CSS pixels up to which Streamlit lays the sidebar over the page
const REST = 1500 // milliseconds
let read = false

function readAhead(files) {
  const own = document.querySelector("script[type='module'][src*='static/js/']")
  if (read || !own) return
  read = true
  const idle = window.requestIdleCallback || ((act) => setTimeout(act, 0)) // Safari has none
  setTimeout(() => idle(() => files.forEach((name) => import(new URL(name, own.src).href).catch(() => {}))), REST)
}

export default function (component) {
  const sidebar = component.parentElement.closest("[data-testid='stSidebar']")
  readAhead(component.data?.[0] || [])
  if (!sidebar) return
  const close = (event) => {
    if (innerWidth > NARROW || !event.target.closest("a")) return
    sidebar.querySelector("[data-testid='stSidebarCollapseButton'] button")?.click()
  }
  sidebar.addEventListener("click", close)
  return () => sidebar.removeEventListener("click", close)
}
