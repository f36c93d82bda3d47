// The formula of a head in MathML, with the term of the station that one stands at lit.

import { fill } from '../../page/static/dom.js';

const MATH = "http://www.w3.org/1998/Math/MathML";

function math(tag, given = {}, ...children) {
  const node = document.createElementNS(MATH, tag);
  for (const [name, value] of Object.entries(given)) node.setAttribute(name, value);
  return fill(node, children);
}

export function formula(station, { scaled, masked }) {
  const lit = (numbers, ...children) => math("mrow", numbers.includes(station) ? { class: "lit" } : {}, ...children);
  const mi = (text) => math("mi", {}, text);
  const mo = (text) => math("mo", { stretchy: "false" }, text);
  const sub = (base, below) => math("msub", {}, mi(base), mi(below));
  const product = (below) => lit([2], mi("x"), sub("W", below));
  const scores = lit([3], mo("("), product("q"), mo(")"), math("msup", {}, math("mrow", {}, mo("("), product("k"), mo(")")), mi("⊤")));
  const inner = scaled ? math("mfrac", {}, scores, lit([4], math("msqrt", {}, mi("d")))) : scores;
  const weights = lit([6], math("mi", { mathvariant: "normal" }, "softmax"), mo("("), inner, ...(masked ? [lit([5], mo("+"), math("mtext", {}, "mask"))] : []), mo(")"));
  return math("math", { display: "block" }, math("mrow", {}, lit([1, 9], mi("x")), lit([9], mo("+")), math("munder", {}, mo("∑"), math("mtext", {}, "heads")), weights, lit([7], mo("·"), mo("("), product("v"), mo(")")), lit([8], sub("W", "O"))));
}
