// The websocket of a world: requests as JSON, answers as a line of JSON and pixels.

const KEPT = ["full", "idle", "broken"]; // after these the server has closed, and the player decides when to try again

export function connect(onMessage, onLink) {
  let socket = null, wait = 500, ended = false;
  const open = () => {
    ended = false;
    let opened = false;
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/world`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { opened = true; wait = 500; };
    socket.onmessage = (event) => {
      const message = unpacked(event.data);
      ended = KEPT.includes(message.kind);
      onMessage(message);
    };
    socket.onclose = async () => {
      onLink(false, ended);
      if (ended) return;
      if (!opened) await askForToken();
      setTimeout(open, wait);
      wait = Math.min(2 * wait, 8000);
    };
  };
  open();
  return {
    send: (request) => { if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(request)); },
    again: open,
  };
}

async function askForToken() {
  const answer = await fetch("/static/play.js").catch(() => null);
  if (answer?.status === 401) location.assign("/login");
}

export function unpacked(buffer) {
  const bytes = new Uint8Array(buffer), end = bytes.indexOf(10);
  const about = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end)));
  const data = bytes.subarray(end + 1);
  const size = (about.width ?? 0) * (about.height ?? 0) * (about.channels ?? 0);
  const pictures = Array.from({ length: about.pictures ?? 0 }, (_, place) => (
    { width: about.width, height: about.height, channels: about.channels, pixels: data.subarray(place * size, (place + 1) * size) }));
  return { ...about, pictures, data };
}
