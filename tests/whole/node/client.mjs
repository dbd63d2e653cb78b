// A client of the circuitd protocol, version 1.0, written from docs/protocol.md alone.
//
// It checks what the page promises about every request while it is used: replies numbered from 0
// without gaps, exactly one final reply, nothing after it.

import { decode, encode } from "@msgpack/msgpack";
import { Dealer } from "zeromq";

export const VERSION = "1.0";
export const UNKNOWN_ID = "?";

/** An error reply, or what the client found out by itself. */
export class CircuitError extends Error {
  constructor(info) {
    super(`${info.code}: ${info.message}${info.found ? `; found: ${info.found}` : ""}`);
    this.info = { blame: "caller", retry: false, nearest: [], ...info };
    this.code = info.code;
  }
}

/** A promise with a time limit, so that a missing reply is a failure and not a hang. */
export function within(promise, seconds, what) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing for ${seconds} s`)), seconds * 1000);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

/** What arrives, one after the other, for whoever asks. */
class Mailbox {
  #waiting = [];
  #arrived = [];

  put(item) {
    const waiter = this.#waiting.shift();
    if (waiter) waiter.resolve(item);
    else this.#arrived.push(item);
  }

  fail(error) {
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
    this.#arrived.push(error);
  }

  get length() {
    return this.#arrived.length;
  }

  take() {
    const item = this.#arrived.shift();
    if (item instanceof Error) {
      this.#arrived.unshift(item);
      return Promise.reject(item);
    }
    if (item !== undefined) return Promise.resolve(item);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }
}

/** One request in flight: an async iterator of `{ reply, frames }`, the last one final. */
export class Request {
  #mailbox = new Mailbox();
  #next = 0;
  ended = false;

  constructor(connection, id) {
    this.connection = connection;
    this.id = id;
  }

  /** Called by the connection with each reply to this request. */
  arrived(reply, frames) {
    const seq = reply.seq ?? 0;
    const final = reply.final ?? true;
    if (this.ended) this.#mailbox.fail(new Error(`a reply after the final one of ${this.id}`));
    else if (seq !== this.#next) {
      this.#mailbox.fail(new Error(`reply ${seq} of ${this.id} where ${this.#next} was due`));
    } else this.#mailbox.put({ reply, frames, final });
    this.#next += 1;
    this.ended = final;
  }

  fail(error) {
    this.#mailbox.fail(error);
  }

  /** How many replies have arrived that nobody has taken. */
  get unread() {
    return this.#mailbox.length;
  }

  /** The next reply, whatever it is; an `error` reply is thrown as CircuitError. */
  async next(seconds = 120) {
    const message = await within(this.#mailbox.take(), seconds, `request ${this.id}`);
    if (message.reply.type === "error") throw new CircuitError(message.reply.error);
    return message;
  }

  /** The final reply; `onPartial` sees the ones before it. */
  async final(onPartial = () => {}) {
    for (;;) {
      const message = await this.next();
      if (message.final) return message;
      await onPartial(message);
    }
  }

  cancel() {
    return this.connection.ask({ type: "cancel", target: this.id });
  }
}

/** One DEALER socket and the requests in flight on it. */
export class Connection {
  #requests = new Map();
  #count = 0;
  #sending = Promise.resolve();
  #closed = false;
  /** Error replies to bytes without a readable id. */
  unaddressed = new Mailbox();

  constructor(endpoint, keys = null) {
    this.socket = new Dealer({
      linger: 0,
      immediate: true,
      heartbeatInterval: 5000,
      heartbeatTimeout: 15000,
      ...(keys && {
        curveServerKey: keys.server,
        curvePublicKey: keys.public,
        curveSecretKey: keys.secret,
      }),
    });
    this.refused = new Promise((_, reject) => {
      for (const type of ["handshake:error:auth", "handshake:error:protocol", "handshake:error:other"]) {
        this.socket.events.on(type, () =>
          reject(new CircuitError({ code: "connect_error", message: `refused (${type})` })),
        );
      }
    });
    this.refused.catch(() => {}); // it may be nobody's business
    this.socket.connect(endpoint);
    this.#read();
  }

  /** Connect and say hello. */
  static async open(endpoint, keys = null) {
    const connection = new Connection(endpoint, keys);
    try {
      await connection.hello();
    } catch (error) {
      connection.close();
      throw error;
    }
    return connection;
  }

  async hello(versions = [VERSION]) {
    const asked = this.ask({ type: "hello", versions, client: "conformance (node)" });
    const { reply } = await Promise.race([asked, this.refused]);
    this.welcome = reply;
    return reply;
  }

  /** Send frames as they are. Sends wait for each other: the socket takes one at a time. */
  raw(frames) {
    this.#sending = this.#sending.then(() => this.socket.send(frames));
    this.#sending.catch(() => {}); // whoever waits for an answer is told by the time limit
    return this.#sending;
  }

  /** Begin a request: `fields` without id, and the frames after the header. */
  begin(fields, frames = []) {
    const id = fields.id ?? `n${++this.#count}`;
    const request = new Request(this, id);
    this.#requests.set(id, request);
    this.raw([encode({ ...fields, id }), ...frames]);
    return request;
  }

  /** Begin a request and wait for its final reply. */
  ask(fields, frames = []) {
    return this.begin(fields, frames).final();
  }

  /** Allow a fetch to send more chunks; the only message without a reply. */
  credit(fetch, chunks) {
    return this.raw([encode({ type: "credit", id: fetch.id, chunks })]);
  }

  /** All bytes of a held tensor, in order, with credit. */
  async fetch(handle, { chunkNbytes = 2 << 20, credit = 8 } = {}) {
    const bytes = new Uint8Array(handle.nbytes);
    const request = this.begin({
      type: "tensor.fetch",
      handle: handle.handle,
      chunk_nbytes: chunkNbytes,
      credit,
    });
    let taken = 0;
    let received = 0;
    const take = async ({ reply, frames }) => {
      bytes.set(frames[0], reply.offset);
      received += reply.nbytes;
      taken += 1;
      if (taken >= credit / 2) {
        await this.credit(request, taken);
        taken = 0;
      }
    };
    await take(await request.final(take));
    if (received !== handle.nbytes) throw new Error(`${received} of ${handle.nbytes} bytes came`);
    return bytes;
  }

  close() {
    this.#closed = true;
    this.socket.close();
  }

  async #read() {
    try {
      for await (const [header, ...frames] of this.socket) {
        const reply = decode(header);
        if (reply.id === UNKNOWN_ID) this.unaddressed.put(reply);
        else this.#requests.get(reply.id)?.arrived(reply, frames);
      }
    } catch (error) {
      if (this.#closed) return;
      for (const request of this.#requests.values()) request.fail(error);
    }
  }
}

const READERS = {
  BOOL: [1, (view, at) => view.getUint8(at) !== 0],
  U8: [1, (view, at) => view.getUint8(at)],
  I8: [1, (view, at) => view.getInt8(at)],
  U16: [2, (view, at) => view.getUint16(at, true)],
  I16: [2, (view, at) => view.getInt16(at, true)],
  U32: [4, (view, at) => view.getUint32(at, true)],
  I32: [4, (view, at) => view.getInt32(at, true)],
  U64: [8, (view, at) => Number(view.getBigUint64(at, true))],
  I64: [8, (view, at) => Number(view.getBigInt64(at, true))],
  BF16: [2, (view, at) => widened(view.getUint16(at, true))],
  F32: [4, (view, at) => view.getFloat32(at, true)],
  F64: [8, (view, at) => view.getFloat64(at, true)],
};

function widened(bits) {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bits * 65536);
  return view.getFloat32(0);
}

/** The bytes of a tensor in a reply. */
export function bytesOf(tensor, frames) {
  const bytes = tensor.data ?? frames[tensor.frame - 1];
  const [size] = READERS[tensor.dtype];
  const nbytes = tensor.shape.reduce((a, b) => a * b, 1) * size;
  if (bytes.length !== nbytes) throw new Error(`${bytes.length} bytes where ${nbytes} were due`);
  return bytes;
}

/** The numbers in `bytes`, which may lie at any address. */
export function numbers(bytes, dtype) {
  const [size, read] = READERS[dtype];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Array.from({ length: bytes.length / size }, (_, i) => read(view, i * size));
}

/** The numbers of a tensor in a reply. */
export function values(tensor, frames) {
  return numbers(bytesOf(tensor, frames), tensor.dtype);
}

/** Token ids as a tensor [rows, T]: inline in the header, or as frame 1 of `frames`. */
export function tokens(rows, frames = null) {
  const bytes = new Uint8Array(Int32Array.from(rows.flat()).buffer); // this machine is little-endian
  const tensor = { type: "tensor", dtype: "I32", shape: [rows.length, rows[0].length] };
  if (frames === null) return { ...tensor, data: bytes };
  frames.push(bytes);
  return { ...tensor, frame: frames.length };
}
