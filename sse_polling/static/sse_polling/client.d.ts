// Types of client.js.

/** How a stream, or the way of a long-poll, goes on. */
export interface BurstDetail {
  /** How many events this burst had. */
  readonly events: number;
  /** What the server said last about when to come back, in milliseconds. */
  readonly retry: number;
  readonly transport: Transport;
  /** The server asked its clients to leave; this one has acked it. */
  readonly draining: boolean;
}

export interface ErrorDetail {
  /**
   * `network`: no connection, or it broke; `cut`: the answer ended too soon; `silence`: nothing for
   * `silenceMs`; `status`: an answer that is an error, see `status`; `type`: not a stream; `answer`: not a
   * long-poll's answer; `length`: an event longer than `maxEventLength`; `renew`: the callback failed, or
   * took longer than `silenceMs`.
   */
  readonly reason: "network" | "cut" | "silence" | "status" | "type" | "answer" | "length" | "renew";
  /** The HTTP status, or 0. */
  readonly status: number;
  /** In how many milliseconds the client tries again; null if it does not. */
  readonly retry: number | null;
  readonly transport: Transport;
  /** This was the last: `readyState` is `CLOSED`. */
  readonly closed: boolean;
}

/** `data` of a `gap`: what retention removed before it was read, or that the channel is another one. */
export interface GapDetail {
  readonly channel: string;
  readonly from: number;
  readonly to: number | null;
  readonly reason: "trimmed" | "reset";
}

/** How events come now. */
export type Transport = "stream" | "poll";

/**
 * What this source is to the other tabs that share: `owning` asks the server for all, `following` is given
 * what the owner reads, `asking` and `claiming` are on the way to these, `alone` has a connection of its own
 * until it has caught up, `away` is a frozen page.
 */
export type Role = "new" | "trying" | "asking" | "following" | "alone" | "claiming" | "owning" | "away" | "closed";

/** A message whose data was parsed as JSON into `detail`; null if it is none. */
export interface ParsedMessageEvent<T> extends MessageEvent<string> {
  readonly detail: T | null;
}

export interface PolledEventSourceEventMap {
  open: Event;
  message: MessageEvent<string>;
  /** A request failed; `readyState` is `CONNECTING`, or `CLOSED` if `detail.closed`. */
  error: CustomEvent<ErrorDetail>;
  /** A planned end: the client comes back by itself. `readyState` stays `OPEN`. */
  burst: CustomEvent<BurstDetail>;
  /** Events are missing here, and this is all that is. */
  gap: ParsedMessageEvent<GapDetail>;
  /** A channel is finished, with what `finish()` was given. After the last one `readyState` is `CLOSED`. */
  end: ParsedMessageEvent<unknown>;
  /** The server asks to leave; the client does so by itself. */
  close: MessageEvent<string>;
}

export interface PolledEventSourceInit extends EventSourceInit {
  /** Send cookies to another origin. Default: false. */
  withCredentials?: boolean;
  /**
   * One connection for all tabs of this site that read the same channels. Default: true, where the browser
   * has Web Locks and BroadcastChannel (a secure context). A string: share with those of the same string only,
   * such as a user's id.
   */
  shared?: boolean | string;
  /**
   * Called when the address is refused (4xx but 408, 425 and 429), at most once in a minute and three times in
   * a row: return a new one, of the same channels, within `silenceMs`. Without it such an answer closes the source.
   */
  renew?: () => Promise<string | URL> | string | URL;
  /** Where to poll. Default: `poll/` under the stream's address, or where a 503's `Link` says. */
  pollUrl?: string;
  /** Where to ack a `close`. Default: `ack/` beside the channel. */
  ackUrl?: string;
  /** How long a connection may be silent before it counts as dead. Default: 65000. */
  silenceMs?: number;
  /** The first wait after an error is a random part of it; it doubles with each. Default: 1000. */
  backoffMs?: number;
  /** The longest wait after errors. Default: 60000. */
  backoffCapMs?: number;
  /** How long to poll before a stream is tried again, when the server does not say. Default: 30000. */
  probeMs?: number;
  /** The longest line, and the longest data of one event, in UTF-16 units. Default: 1048576. */
  maxEventLength?: number;
}

export declare class PolledEventSource extends EventTarget implements EventSource {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSED: 2;
  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSED: 2;

  /** Throws a `SyntaxError` (a `DOMException`) for what is not the address of a stream. */
  constructor(url: string | URL, init?: PolledEventSourceInit | null);

  /** The address as it was given, absolute. */
  readonly url: string;
  readonly withCredentials: boolean;
  readonly readyState: 0 | 1 | 2;
  /** The cursor: all before it was delivered to this source. */
  readonly lastEventId: string;
  readonly transport: Transport;
  readonly role: Role;

  onopen: ((this: EventSource, event: Event) => unknown) | null;
  onmessage: ((this: EventSource, event: MessageEvent) => unknown) | null;
  /** Typed as EventSource's own; `addEventListener("error", …)` knows the `detail`. */
  onerror: ((this: EventSource, event: Event) => unknown) | null;

  /** Give up. No event is fired any more; if other tabs share the connection, one of them takes it over. */
  close(): void;

  addEventListener<K extends keyof PolledEventSourceEventMap>(
    type: K,
    listener: (this: PolledEventSource, event: PolledEventSourceEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: (this: PolledEventSource, event: MessageEvent) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<K extends keyof PolledEventSourceEventMap>(
    type: K,
    listener: (this: PolledEventSource, event: PolledEventSourceEventMap[K]) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: (this: PolledEventSource, event: MessageEvent) => unknown,
    options?: boolean | EventListenerOptions,
  ): void;
  removeEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | EventListenerOptions,
  ): void;
}

// The pure parts, for tests and for other shells.

export interface StreamEvent {
  readonly type: string;
  readonly data: string;
}

/** What stands between two cursors. */
export interface Item {
  readonly from: string;
  readonly to: string;
  readonly events: readonly (StreamEvent & { readonly lastEventId: string })[];
}

/** What a machine is told, and what it wants done; see the source. */
export type Input = { readonly type: string } & Readonly<Record<string, unknown>>;
export type Action = { readonly do: string } & Readonly<Record<string, unknown>>;

export declare class EventStreamParser {
  constructor(options?: { lastEventId?: string; maxLength?: number });
  lastEventId: string;
  retryMs: number | null;
  retries: number;
  overflow: boolean;
  readonly isClean: boolean;
  feed(chunk: Uint8Array): { from: string; to: string; event: StreamEvent | null }[];
}

export declare class Address {
  constructor(url: string, options?: { pollUrl?: string; ackUrl?: string; origin?: string });
  readonly cursor: string;
  readonly stream: string;
  readonly poll: string;
  readonly ack: string;
  readonly key: string;
  readonly origin: string;
  readonly isSameOrigin: boolean;
  readonly several: boolean;
  readonly single: boolean;
}

export interface MachineOptions {
  address: Address;
  cursor: string;
  canRenew?: boolean;
  now: () => number;
  random: () => number;
  silenceMs?: number;
  backoffMs?: number;
  backoffCapMs?: number;
  probeMs?: number;
  maxEventLength?: number;
}

export declare class Connection {
  constructor(options: MachineOptions & { client: string; attempt?: number });
  readonly cursor: string;
  readonly transport: Transport;
  readonly attempt: number;
  handle(input: Input): Action[];
}

export declare class Member {
  constructor(options: MachineOptions & { id: string; shared: boolean; token: () => string });
  readonly cursor: string;
  readonly role: Role;
  readonly readyState: 0 | 1 | 2;
  readonly transport: Transport;
  handle(input: Input): Action[];
}

export declare function readAnswer(
  text: string,
  options: { from: string; several: boolean },
): { items: Item[]; count: number; retryMs: number | null; end: boolean };
export declare function readRetryAfter(value: string | null | undefined, now: number): number | null;
export declare function readAlternate(value: string | null | undefined, base: string): string | null;
