// News of the fleet: one EventSource for all of a browser's tabs. The tab that holds a lock has it and
// tells the others; when that tab is closed or hidden, the lock passes to another that is looked at.

const EVENT = "fleet";
const HIDDEN_SECONDS = 5; // after which a tab that nobody looks at lets go
const AGAIN_SECONDS = 5; // until a stream that the server has ended for good is opened anew
const MOST_SECONDS = 300; // and at most, when that goes on

// Call `heard` whenever there is news on the stream at `address`; never if that is empty.
export function follow(address, heard) {
  if (!address) return;
  if (!navigator.locks || !window.BroadcastChannel) {
    alone(address, heard); // locks need HTTPS
    return;
  }
  const name = `sse_polling ${address}`;
  const others = new BroadcastChannel(name);
  others.onmessage = heard;
  whileSeen((signal) =>
    navigator.locks
      .request(name, { signal }, () =>
        new Promise((release) => {
          const close = open(address, () => {
            heard();
            others.postMessage(EVENT);
          });
          signal.addEventListener("abort", () => {
            close();
            release();
          });
        }),
      )
      .catch((error) => {
        if (error.name !== "AbortError") alone(address, heard);
      }),
  );
}

function alone(address, heard) {
  whileSeen((signal) => signal.addEventListener("abort", open(address, heard)));
}

// Call `begin` with a signal whenever the tab is looked at; it is aborted some time after it is not.
function whileSeen(begin) {
  let seen = null;
  let timer = 0;
  const end = () => {
    seen?.abort();
    seen = null;
  };
  const look = () => {
    clearTimeout(timer);
    if (document.hidden) timer = setTimeout(end, HIDDEN_SECONDS * 1000);
    else if (!seen) begin((seen = new AbortController()).signal);
  };
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pagehide", end);
  window.addEventListener("pageshow", look);
  look();
}

// Open the stream, and anew whenever it was ended for good; return what closes it.
function open(address, heard) {
  let source = null;
  let timer = 0;
  let pause = AGAIN_SECONDS;
  const begin = () => {
    source = new EventSource(address);
    source.addEventListener("open", () => (pause = AGAIN_SECONDS));
    source.addEventListener(EVENT, heard);
    source.addEventListener("error", () => {
      if (source.readyState !== EventSource.CLOSED) return; // it comes back by itself
      timer = setTimeout(begin, pause * (1000 + 250 * Math.random()));
      pause = Math.min(2 * pause, MOST_SECONDS);
    });
  };
  begin();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}
