// Closes the sidebar when a link in it was followed on a narrow screen, which it covers: Streamlit closes it only for
// its own navigation. Its button is pressed, so that Streamlit also remembers the sidebar as closed.

const NARROW = 768 // CSS pixels up to which Streamlit lays the sidebar over the page

export default function (component) {
  const sidebar = component.parentElement.closest("[data-testid='stSidebar']")
  if (!sidebar) return
  const close = (event) => {
    if (innerWidth > NARROW || !event.target.closest("a")) return
    sidebar.querySelector("[data-testid='stSidebarCollapseButton'] button")?.click()
  }
  sidebar.addEventListener("click", close)
  return () => sidebar.removeEventListener("click", close)
}
