// Draws what pair.py sends. How the pictures are compared stays while one steps from picture to picture.

const SECONDS = 0.7 // each picture is seen at a time
const WAYS = ["Side by side", "Flicker", "Difference"]
const states = new WeakMap()

function child(parent, place, tag, name) {
  let node = parent.children[place]
  if (!node) node = parent.appendChild(document.createElement(tag))
  node.className = name
  return node
}

function figure(stage, place, side) {
  const node = child(stage, place, "figure", "side")
  const image = child(node, 0, "img", "picture")
  if (image.getAttribute("src") !== side.src) image.src = side.src
  image.alt = side.spoken
  child(node, 1, "figcaption", "name").textContent = side.name
  return node
}

export default function (component) {
  const { parentElement } = component
  const data = component.data?.[0]
  const root = parentElement.querySelector(".pair")
  if (!root || !data) return
  if (!states.has(root)) {
    states.set(root, { way: WAYS[0], held: matchMedia("(prefers-reduced-motion: reduce)").matches, at: 0 })
  }
  const state = states.get(root)
  if (!data.difference && state.way === WAYS[2]) state.way = WAYS[0]

  const bar = child(root, 0, "div", "ways")
  bar.setAttribute("role", "group")
  bar.setAttribute("aria-label", "How to compare both pictures")
  const stage = child(root, 1, "div", "stage")

  function drawn() {
    clearInterval(state.timer)
    WAYS.forEach((way, place) => {
      const button = child(bar, place, "button", "way")
      button.type = "button"
      button.textContent = way
      button.hidden = way === WAYS[2] && !data.difference
      button.setAttribute("aria-pressed", String(way === state.way))
      button.onclick = () => {
        state.way = way
        drawn()
      }
    })
    const hold = child(bar, WAYS.length, "button", "way hold")
    hold.type = "button"
    hold.hidden = state.way !== WAYS[1]
    hold.textContent = state.held ? "Go on" : "Hold"
    hold.onclick = () => {
      state.held = !state.held
      drawn()
    }
    const swap = child(bar, WAYS.length + 1, "button", "way")
    swap.type = "button"
    swap.hidden = state.way !== WAYS[1] || !state.held
    swap.textContent = "Swap"
    swap.onclick = () => {
      state.at = 1 - state.at
      seen()
    }
    const shown = state.way === WAYS[2] ? [data.difference] : data.sides
    const figures = shown.map((side, place) => figure(stage, place, side))
    while (stage.children.length > shown.length) stage.lastElementChild.remove()
    stage.className = `stage ${state.way === WAYS[0] ? "beside" : "one"}`

    function seen() {
      figures.forEach((node, place) => node.classList.toggle("unseen", state.way === WAYS[1] && place !== state.at))
    }
    seen()
    if (state.way === WAYS[1] && !state.held) {
      state.timer = setInterval(() => {
        state.at = 1 - state.at
        seen()
      }, 1000 * SECONDS)
    }
  }
  drawn()
  return () => clearInterval(state.timer)
}
