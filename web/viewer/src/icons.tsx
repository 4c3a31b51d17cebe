//! The pictures of the page: drawn here, so that none is fetched.

const paths = {
  chevron: 'M6 4l4 4-4 4',
  file: 'M4 2h5l3 3v9H4zM9 2v3h3',
  image: 'M3 3h10v10H3zM3 11l3-3 3 3 2-2 2 2M10.5 6h.01',
  link: 'M6 10l4-4M7 5l1-1a2.5 2.5 0 0 1 4 4l-1 1M9 11l-1 1a2.5 2.5 0 0 1-4-4l1-1',
  binary: 'M4 2h5l3 3v9H4zM6.5 8v3M9.5 8v3',
  search: 'M7 3a4 4 0 1 0 0 8 4 4 0 0 0 0-8M10 10l3.5 3.5',
  plus: 'M8 3v10M3 8h10',
  upload: 'M8 11V3M5 6l3-3 3 3M3 13h10',
  activity: 'M2 8h3l2-5 2 10 2-5h3',
  tree: 'M3 3h4M5 3v9h4M5 7.500h4M11 7.500h2M11 12h2',
  close: 'M4 4l8 8M12 4l-8 8',
  lock: 'M5 7V5a3 3 0 0 1 6 0v2M4 7h8v6H4z',
  spark: 'M9 2L4 9h4l-1 5 5-7H8z'
}

/** The name of a picture. */
export type IconName = keyof typeof paths

/** A picture of one line, in the colour of the words beside it; it says nothing by itself. */
export function Icon ({ name, className = '' }: { name: IconName, className?: string }) {
  return (
    <svg class={`icon ${className}`} viewBox="0 0 16 16" aria-hidden="true">
      <path d={paths[name]} />
    </svg>
  )
}
