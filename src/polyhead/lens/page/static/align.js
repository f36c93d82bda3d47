// Two sequences are laid side by side: words along time by dynamic time warping, two texts by what they share.

// The path of words through time, from the mean weights [T, S] of chosen heads: each head standardised over the words,
// a median over 7 frames, their mean, and the cheapest way from the first word to the last. Gives the frame at which each
// word begins, and one more for the end.
export function warped(heads, T, S) {
  const mean = new Float32Array(T * S);
  for (const head of heads) {
    for (let j = 0; j < S; j++) {
      let sum = 0, squares = 0;
      for (let i = 0; i < T; i++) sum += head[i * S + j];
      const centre = sum / T;
      for (let i = 0; i < T; i++) squares += (head[i * S + j] - centre) ** 2;
      const spread = Math.sqrt(squares / T) || 1;
      for (let i = 0; i < T; i++) mean[i * S + j] += (head[i * S + j] - centre) / spread / heads.length;
    }
  }
  const calm = new Float32Array(T * S), some = [];
  for (let i = 0; i < T; i++) {
    for (let j = 0; j < S; j++) {
      some.length = 0;
      for (let k = j - 3; k <= j + 3; k++) some.push(mean[i * S + Math.abs(k >= S ? 2 * S - 2 - k : k)] ?? 0);
      calm[i * S + j] = some.sort((a, b) => a - b)[3];
    }
  }
  const cost = new Float64Array((T + 1) * (S + 1)).fill(Infinity), came = new Uint8Array((T + 1) * (S + 1)), wide = S + 1;
  cost[0] = 0;
  for (let i = 1; i <= T; i++) {
    for (let j = 1; j <= S; j++) {
      const ways = [cost[(i - 1) * wide + j - 1], cost[(i - 1) * wide + j], cost[i * wide + j - 1]];
      let best = 0;
      for (let k = 1; k < 3; k++) if (ways[k] < ways[best]) best = k;
      cost[i * wide + j] = ways[best] - calm[(i - 1) * S + j - 1];
      came[i * wide + j] = best;
    }
  }
  const path = [];
  for (let i = T, j = S; i > 0 && j > 0;) {
    path.push([i - 1, j - 1]);
    const way = came[i * wide + j];
    if (way !== 2) i--;
    if (way !== 1) j--;
  }
  path.reverse();
  const begins = new Array(T + 1).fill(S);
  for (const [i, j] of path) begins[i] = Math.min(begins[i], j);
  return { path, begins };
}

// Two lists as one: pairs [place in the first or -1, place in the second or -1], with as many in common as can be.
export function aligned(first, second) {
  const n = first.length, m = second.length, wide = m + 1, most = new Uint16Array((n + 1) * wide);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) most[i * wide + j] = first[i] === second[j] ? most[(i + 1) * wide + j + 1] + 1 : Math.max(most[(i + 1) * wide + j], most[i * wide + j + 1]);
  }
  const pairs = [];
  let i = 0, j = 0;
  while (i < n || j < m) {
    if (i < n && j < m && first[i] === second[j]) pairs.push([i++, j++]);
    else if (j >= m || (i < n && most[(i + 1) * wide + j] >= most[i * wide + j + 1])) pairs.push([i++, -1]);
    else pairs.push([-1, j++]);
  }
  return pairs;
}
