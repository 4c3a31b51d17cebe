/** Lines that stand where something is about to be; `widths` are of the space there is, in percent. */
export function Skeleton ({ label, widths, className = '' }: { label: string, widths: number[], className?: string }) {
  return <div class={`skeleton ${className}`} role="status" aria-label={label}>{widths.map(width => <i key={width} style={{ width: `${width}%` }} />)}</div>
}
