// Pixels on canvases of their own size, which the style enlarges.

export function draw(canvas, { width, height, channels, pixels }) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height), { data } = image;
  for (let from = 0, to = 0; to < data.length; from += channels, to += 4) {
    data[to] = pixels[from];
    data[to + 1] = pixels[from + (channels > 1 ? 1 : 0)];
    data[to + 2] = pixels[from + (channels > 2 ? 2 : 0)];
    data[to + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}
