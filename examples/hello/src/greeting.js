const name = 'world'

export function greeting () {
  return `Hello, ${name}!`
}

document.querySelector('#greeting').textContent = greeting()
