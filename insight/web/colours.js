// Colours come from the style sheet, which has them from the palette that pictures and bars use, too.
import { useEffect, useState } from "preact/hooks";

export const NAMES = 6;

/** The class of the colour of a name of that rank. */
export const rankClass = (rank) => (rank < NAMES ? `c${rank}` : "co");

function read() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = Array.from({ length: NAMES }, (_, rank) => colour(`name-${rank}`));
  return {
    ground: colour("ground"),
    ink: colour("ink"),
    dim: colour("dim"),
    line: colour("line"),
    error: colour("error"),
    others: colour("others"),
    names,
    of: (rank) => names[rank] ?? colour("others"),
  };
}

/** The colours for what is drawn on a canvas: again when light becomes dark. */
export function useColours() {
  const [colours, set] = useState(read);
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const again = () => set(read());
    query.addEventListener("change", again);
    return () => query.removeEventListener("change", again);
  }, []);
  return colours;
}

/** Black or white, whichever can be read on a colour. */
export function inkOn(colour) {
  const part = (at) => {
    const value = parseInt(colour.slice(at, at + 2), 16) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  const luminance = 0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5);
  return luminance > 0.22 ? "#000000" : "#FFFFFF";
}
