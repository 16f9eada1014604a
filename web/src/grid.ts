/** How many tiles go side by side. */

export interface Shape {
  columns: number;
  width: number;
  height: number;
}

const WIDEST = 16 / 9;
const NARROWEST = 4 / 3;
/** In an upright box, a phone's, square tiles use the place better. */
const NARROWEST_UPRIGHT = 1;

/** The shape with the largest tiles for `count` of them in a box, in whole pixels, 16:9 at the widest. */
export function gridShape(count: number, boxWidth: number, boxHeight: number, gap: number): Shape {
  const narrowest = boxHeight > boxWidth ? NARROWEST_UPRIGHT : NARROWEST;
  let best: Shape = { columns: 1, width: 0, height: 0 };
  for (let columns = 1; columns <= Math.max(1, count); columns++) {
    const rows = Math.ceil(count / columns);
    let width = (boxWidth - gap * (columns - 1)) / columns;
    let height = (boxHeight - gap * (rows - 1)) / rows;
    if (width <= 0 || height <= 0) continue;
    if (width / height > WIDEST) width = height * WIDEST;
    if (width / height < narrowest) height = width / narrowest;
    if (width * height > best.width * best.height + 1)
      best = { columns, width: Math.floor(width), height: Math.floor(height) };
  }
  return best;
}
