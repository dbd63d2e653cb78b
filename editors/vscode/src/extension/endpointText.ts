// Endpoints as text: what cannot be one, and the command that forwards a socket.

/** Longer paths are no sockets: the system's limit, with the terminating zero. */
const SOCKET_PATH_MAX = 107;

/** Why `text` is no endpoint of `scheme`; null where it may be one. */
export function refusedEndpoint(text: string, scheme: string): string | null {
  const endpoint = text.trim();
  if (!endpoint.startsWith(scheme)) return `It begins with ${scheme}`;
  const rest = endpoint.slice(scheme.length);
  if (scheme === "ipc://") {
    if (!rest.startsWith("/")) return "The path of a socket is absolute: ipc:///path";
    return Buffer.byteLength(rest) > SOCKET_PATH_MAX
      ? `The path of a socket has at most ${SOCKET_PATH_MAX} bytes`
      : null;
  }
  const port = Number(/^(?:[^\s:[\]]+|\[[0-9a-fA-F:]+\]):(\d+)$/.exec(rest)?.[1]);
  return port >= 1 && port <= 65535 ? null : "It ends with a port: tcp://host:7557";
}

/** The command that makes `local` here the socket `remote` there. */
export function sshForward(host: string, remote: string, local: string): string {
  const socket = `${local}:${remote}`;
  // A socket left over from last time would be in the way.
  return `rm -f ${quoted(local)}; ssh -N -o ExitOnForwardFailure=yes -L ${quoted(socket)} ${quoted(host)}`;
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) && !word.startsWith("-") ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
