// Questions to the server, and its word that something is new.

export async function get(path, values = {}) {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== "" && value !== undefined));
  return answer(await fetch(`/api/${path}?${query}`, { headers: { accept: "application/json" } }));
}

export async function post(path, body) {
  const headers = { "content-type": "application/json" };
  return answer(await fetch(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function answer(response) {
  if (response.status === 401) location.assign("/login");
  const content = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(content.error ?? `The server answers ${response.status}.`);
  return content;
}

export function listen(onNews, onLink) {
  let wait = 500;
  const connect = () => {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.onopen = () => { wait = 500; onLink(true); };
    socket.onmessage = (event) => onNews(JSON.parse(event.data));
    socket.onclose = () => {
      onLink(false);
      setTimeout(connect, wait);
      wait = Math.min(2 * wait, 8000);
    };
  };
  connect();
}
