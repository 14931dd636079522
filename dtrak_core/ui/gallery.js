// Draws what gallery.py sends. Runs again on every change of data or theme: nodes are reused, never replaced.

const focused = new WeakMap()

function child(parent, place, tag, name) {
  let node = parent.children[place]
  if (!node) {
    node = document.createElement(tag)
    node.className = name
    parent.appendChild(node)
  }
  return node
}

function trim(parent, count) {
  while (parent.children.length > count) parent.lastElementChild.remove()
}

function text(node, value) {
  if (node.textContent !== value) node.textContent = value
  node.hidden = !value
}

function attribute(node, name, value) {
  if (value === null) node.removeAttribute(name)
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value)
}

function draw(button, item, data) {
  button.type = "button"
  const image = child(button, 0, "img", "picture")
  attribute(image, "src", item.src)
  attribute(image, "alt", "")
  const badge = child(button, 1, "span", "badge")
  text(badge, item.pale ? "unsure" : item.unknown ? "?" : item.fixed ? "=" : "")
  item.lines.forEach((line, place) => text(child(button, place + 2, "span", "line"), line))
  trim(button, item.lines.length + 2)
  attribute(button, "data-key", item.key)
  attribute(button, "aria-label", item.name)
  attribute(button, "title", item.name)
  button.classList.toggle("pale", Boolean(item.pale))
  button.classList.toggle("unknown", Boolean(item.unknown))
  button.classList.toggle("outlined", Boolean(item.outlined))
  button.style.setProperty("--place", String(item.place || "auto"))
  attribute(button, "aria-haspopup", data.action === "open" ? "dialog" : null)
  attribute(button, "aria-pressed", data.action === "choose" ? String([data.chosen].flat().includes(item.key)) : null)
}

// The button that an arrow key leads to: along the reading order, or the nearest one above or below.
function neighbour(buttons, at, key) {
  const here = buttons.indexOf(at)
  if (key === "ArrowRight") return buttons[here + 1]
  if (key === "ArrowLeft") return buttons[here - 1]
  if (key === "Home") return buttons[0]
  if (key === "End") return buttons[buttons.length - 1]
  const from = at.getBoundingClientRect()
  const down = key === "ArrowDown"
  let best = null
  let least = Infinity
  for (const other of buttons) {
    const to = other.getBoundingClientRect()
    const rise = down ? to.top - from.top : from.top - to.top
    if (rise < from.width / 2) continue
    const cost = rise * 4 + Math.abs(to.left - from.left)
    if (cost < least) [best, least] = [other, cost]
  }
  return best
}

export default function (component) {
  const { parentElement, setTriggerValue } = component
  const data = component.data?.[0]
  const root = parentElement.querySelector(".gallery")
  if (!root || !data) return

  const layout = child(root, 0, "div", "layout")
  layout.setAttribute("role", "group")
  attribute(layout, "aria-label", data.label)
  layout.classList.toggle("with-target", Boolean(data.target))
  layout.classList.toggle("matrix", Boolean(data.across))
  const aside = child(layout, 0, "div", "target")
  aside.hidden = !data.target
  if (data.target) draw(child(aside, 0, "button", "item"), data.target, data)
  else trim(aside, 0)

  const rows = child(layout, 1, "div", "rows")
  const heads = child(rows, 0, "div", "heads")
  const columns = data.columns || []
  // Each part grows to as much a column, so that no picture of one is larger than of the other.
  const widest = (place) => (columns.length ? `${columns[place] * 8.5}rem` : "")
  const share = (place) => (columns.length ? `${columns[place]} 1 0` : "1 1 auto")
  const words = data.across || data.heads || []
  rows.style.setProperty("--columns", String(words.length || 1))
  words.forEach((head, place) => {
    const node = child(heads, place, "div", "head")
    text(node, head)
    node.style.flex = share(place)
    node.style.maxWidth = widest(place)
  })
  trim(heads, words.length)
  heads.hidden = !words.length

  data.rows.forEach((row, number) => {
    const block = child(rows, number + 1, "div", "row")
    if (block.className !== "row") {
      block.className = "row"
      trim(block, 0)
      block.hidden = false
    }
    text(child(block, 0, "div", "title"), row.title)
    text(child(block, 1, "div", "note"), row.note)
    const parts = child(block, 2, "div", "parts")
    row.parts.forEach((part, place) => {
      const box = child(parts, place, "div", "part")
      box.style.flex = share(place)
      box.style.maxWidth = widest(place)
      text(child(box, 0, "div", "part-head"), (data.heads || [])[place] || "")
      const items = child(box, 1, "div", "items")
      items.style.setProperty("--cell", `${data.cell}px`)
      items.style.setProperty("--own", String(columns[place] || 99))
      items.style.setProperty("--most", String(Math.max(...columns, 0) || 99))
      items.setAttribute("role", "group")
      attribute(items, "aria-label", [row.name || row.title || data.label, (data.heads || [])[place]].filter(Boolean).join(", "))
      part.items.forEach((item, at) => draw(child(items, at, "button", "item"), item, data))
      trim(items, part.items.length)
      text(child(box, 2, "div", "empty"), part.items.length ? "" : part.empty)
    })
    trim(parts, row.parts.length)
  })
  const legend = child(rows, data.rows.length + 1, "div", "legend")
  legend.className = "legend"
  ;(data.legend || []).forEach((one, place) => {
    const entry = child(legend, place, "span", "entry")
    const swatch = child(entry, 0, "span", "swatch")
    swatch.className = `swatch ${one.mark}`
    swatch.hidden = !one.mark
    text(child(entry, 1, "span", "badge"), one.badge)
    text(child(entry, 2, "span", "words"), one.text)
  })
  trim(legend, (data.legend || []).length)
  legend.hidden = !legend.children.length
  trim(rows, data.rows.length + 2)

  // One stop for the Tab key; arrow keys do the rest.
  const buttons = [...root.querySelectorAll("button")]
  const active = root.getRootNode().activeElement
  const stop = buttons.includes(active)
    ? active
    : buttons.find((b) => [data.chosen].flat().includes(b.dataset.key)) || buttons.find((b) => b.tabIndex === 0) || buttons[0]
  for (const button of buttons) button.tabIndex = button === stop ? 0 : -1

  root.onfocusin = (event) => {
    const target = event.target.closest("button")
    if (target) for (const button of root.querySelectorAll("button")) button.tabIndex = button === target ? 0 : -1
  }
  root.onclick = (event) => {
    const button = event.target.closest("button")
    if (!button) return
    // Links that gallery.py draws beside this component, unseen: one for each of these keys, in this order.
    const way = data.ways ? data.ways.keys.indexOf(button.dataset.key) : -1
    if (way < 0) setTriggerValue("clicked", button.dataset.key)
    else document.querySelectorAll(`.st-key-${data.ways.place} .stPageLink`)[way]?.querySelector("a").click()
  }
  root.onkeydown = (event) => {
    if (!["ArrowRight", "ArrowLeft", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return
    const at = event.target.closest("button")
    if (!at || event.ctrlKey || event.metaKey || event.altKey) return
    event.preventDefault()
    const next = neighbour([...root.querySelectorAll("button")], at, event.key)
    if (next) next.focus()
  }

  if (data.focus && focused.get(parentElement) !== data.focus[1]) {
    focused.set(parentElement, data.focus[1])
    const wanted = buttons.find((b) => b.dataset.key === data.focus[0])
    if (wanted) setTimeout(() => wanted.focus({ preventScroll: true }), 50)
  }
}
