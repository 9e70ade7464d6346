// Where ratings go: to the server of `espalier rate`. A rating is saved when the server says so.

const PENDING_KEY = "espalier-rating-pending";
const RETRY_MS = 1000;

const freshUid = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
};

class RemoteRatings {
  // `trouble(text)` is told why something waits; null: it is over.
  constructor(trouble) {
    this.trouble = trouble;
    this.keeps = "server";
  }

  about() {
    return this.call("about", {});
  }

  next(part, rater, passed) {
    return this.call("next", { part, rater, passed });
  }

  item(part, rater, item) {
    return this.call("item", { part, rater, item });
  }

  progress() {
    return this.call("progress", {});
  }

  // Kept in the browser until the server has it: also a page that is closed meanwhile loses nothing.
  async save(part, rater, value) {
    const body = { part, rater, uid: freshUid(), ...value };
    remember(PENDING_KEY, JSON.stringify(body));
    const answer = await this.call("rate", body);
    forget(PENDING_KEY);
    return answer;
  }

  // Sends what an earlier page could not; a rating that the server refuses is no more asked for.
  async sendPending() {
    const kept = remembered(PENDING_KEY);
    if (!kept) return false;
    try {
      await this.call("rate", JSON.parse(kept));
    } catch (error) {
      if (error.status === 403) throw error;
    }
    forget(PENDING_KEY);
    return true;
  }

  async call(name, body) {
    for (;;) {
      let response;
      try {
        response = await fetch(`/api/${name}`, {
          method: "POST",
          headers: { "Content-Type": "application/json" },
          body: JSON.stringify(body),
          cache: "no-store",
        });
        const value = await response.json();
        this.trouble(null);
        if (response.ok) return value;
        throw Object.assign(new Error(value.error ?? response.statusText), { status: response.status });
      } catch (error) {
        if (error.status) throw error;
        // No server, or one that was stopped within its answer: the same again is the same once.
        this.trouble(t("rating.no_server"));
        await new Promise((done) => setTimeout(done, RETRY_MS));
      }
    }
  }
}

function forget(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // A browser that keeps nothing has nothing to forget.
  }
}
