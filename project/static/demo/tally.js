// Lost and repeated events, counted against the producer's own numbering: the `n` in the data,
// not the ids. The first number seen is where a count starts from.

export class Tally {
  constructor() {
    this.highest = null;
    this.lost = 0;
    this.repeated = 0;
  }

  take(n) {
    if (this.highest === null || n === this.highest + 1) {
      this.highest = n;
    } else if (n > this.highest) {
      this.lost += n - this.highest - 1;
      this.highest = n;
    } else {
      this.repeated += 1;
    }
  }
}
