// Everything the page says, in English and in Chinese.

import { digits, percent } from './dom.js';
import { apart, state } from './state.js';

const WORDS = {
  map: ['map', '图'], lines: ['lines', '连线'], distance: ['distance', '距离'], text: ['text', '文本'], picture: ['picture', '图像'], sound: ['sound', '声音'], table: ['table', '表格'], heads: ['heads', '各头'],
  where: ['Where', '位置'], what: ['Picture', '图'], which: ['Numbers', '数字'],
  'where region': ['Where in the model', '在模型的何处'], 'what region': ['What is looked at', '看的是什么'], 'which region': ['Which, and how much', '是哪个，有多少'],
  looks: ['looks', '在看'], 'looked at': ['looked at', '被看'], 'looks and looked at': ['looks, and is looked at', '在看，也被看'],
  'zoom in': ['Zoom in', '放大'], 'zoom out': ['Zoom out', '缩小'], whole: ['Show the whole map', '显示整图'],
  'faintest': ['The more opaque a line, the larger the weight; lines under {0} are not drawn.', '线越浓，权重越大；小于 {0} 的线不画。'],
  window: ['Shown are {0} words round the chosen one.', '显示所选词周围的 {0} 个词。'],
  'lines too long': ['This input is too long for lines; the map and the text show it whole.', '输入太长，不宜用连线；请用图或文本查看全部。'],
  play: ['play', '播放'], pause: ['pause', '暂停'], smooth: ['smooth between patches (off: one square a patch, as it is)', '块间平滑（不勾选：一块一格，如实显示）'],
  'patches of': ['picture of {0} by {1} patches', '{0} 行 {1} 列图块的图像'], 'sound of': ['sound of {0} seconds', '{0} 秒的声音'],
  'all heads': ['All heads of this layer, for the same place', '同一位置，本层各头'], head: ['head {0}', '头 {0}'], 'head word': ['head', '头'], layer: ['layer', '层'],
  alignment: ['Words in time', '词与时间'], 'words in time': ['words in time', '各词的时间'],
  'path of': ['White: the cheapest path through the mean of {0} head(s), each standardised over the words, median over 7 frames (dynamic time warping). Shift-click heads on the left to choose which.', '白线：{0} 个头的平均上代价最小的路径；每个头先按词标准化，再取 7 帧中值（动态时间规整）。在左边按住 Shift 点选各头。'],
  'from s': ['from (s)', '起（秒）'], 'to s': ['to (s)', '止（秒）'],
  shift: ['Point to preview, click to choose who looks, Shift-click to choose who is looked at.', '指向即预览；点选在看的；按住 Shift 点选被看的。'],
  point: ['Point to preview, click to choose.', '指向即预览，点击即选定。'],
  atlas: ['Heads of the model', '模型的各头'], order: ['Order', '排序'], alike: ['like the chosen head', '与所选头相似'],
  'atlas note': ['One square is one head. Shift-click several for their mean.', '一格一头。按住 Shift 点选多个，取其平均。'],
  'alike note': ['By the likeness of their pictures (cosine) with the chosen head.', '按与所选头图样的相似度（余弦）排列。'],
  step: ['step {0} of {1}', '第 {0} 步，共 {1} 步'], 'layer head': ['layer {0} head {1}', '第 {0} 层 头 {1}'],
  'other axes': ['Only heads that look from and at the same places have a mean.', '只有两轴相同的头才能取平均。'],
  'all heads of the model': ['all heads of the model', '模型的所有头'], part: ['part', '部分'],
  encoder: ['encoder', '编码器'], decoder: ['decoder', '解码器'], cross: ['decoder → encoder', '解码器 → 编码器'],
  start: ['Point at a {0} to see where it looks. Click to keep it.', '指向一个{0}，看它看向哪里；点击即可固定。'],
  'looks at': ['looks at', '看'], 'looks most at': ['looks most at', '最多看'], 'is looked at': ['is looked at by', '被这些看：'], 'who looks at': ['Who looks at', '谁在看'],
  'strongest here': ['Strongest links of this head', '这个头最强的联系'],
  'row column': ['row {0} col {1}', '{0} 行 {1} 列'], lit: ['Lit is looked at; the brightest patch is the largest weight of this row.', '亮处被看；最亮的图块是本行最大的权重。'], 'strongest change': ['Where A and B differ most', 'A 与 B 相差最大处'], 'in one only': ['In one of the two only.', '只在其中一方。'], 'no difference': ['No difference, or in one of the two only.', '没有差别，或只在其中一方。'],
  barred: ['It may not look there: that comes later.', '不许看那里：它在后面。'], 'is hidden': ['Hidden by choice; the rest of the row is renormalised.', '已按选择隐藏；该行其余部分已重新归一。'],
  'beyond 64': ['Not among the 64 strongest.', '不在最强的 64 个之中。'], rank: ['no. {0} of {1}', '第 {0} 名，共 {1}'],
  hold: ['{0} of {1} {2} hold 80 %', '{1} 个{2}中，{0} 个占 80 %'], received: ['receives {0} from {1} rows in all', '从 {1} 行共收到 {0}'],
  more: ['all {0}', '全部 {0} 个'], fewer: ['fewer', '收起'],
  numbers: ['How the weight comes about', '权重从何而来'], scale: ['scale', '缩放'], bias: ['bias', '偏置'], score: ['score', '得分'], weight: ['weight', '权重'],
  norm: ['norm of value', '值的范数'], 'norm after': ['norm of value, after output projection', '值经输出投影后的范数'],
  'about dot': ['query and key multiplied place by place, and added', 'query 与 key 逐位相乘再相加'], 'about lse': ['logarithm of the sum of exp(score) over the row', '该行 exp(得分) 之和的对数'],
  products: ['The {0} products of q·k: up adds, down takes away', 'q·k 的 {0} 个乘积：向上为加，向下为减'],
  'take along': ['Take it along', '带走'], 'copy numbers': ['copy numbers', '复制数字'], 'as table': ['as table', '看表格'], TSV: ['TSV', 'TSV'], SVG: ['SVG', 'SVG'], PNG: ['PNG', 'PNG'],
  why: ['Why is this not an explanation?', '为什么这不是解释？'],
  'why text': ['A weight says how much of a value was mixed in at this layer, by this head. It does not say why, nor what the model would have done without it.\nA large weight on a small value moves little: so the first choice here is weight × value norm. First tokens and separators often gather weight that is not needed elsewhere.\nLater layers add to, undo and route round what one head does; two words that look alike in one map may matter quite differently to the output.\nA gradient tells how fast the answer would move if one weight alone were changed a little. It does not tell what a large change would do, and weights that must sum to one cannot change alone.\nTo claim a cause, change something and measure: switch the head off, replace the word, and compare the output.', '权重说的是：在这一层、这个头，混入了某个值的多少。它没有说为什么，也没有说缺了它模型会怎样。\n大权重乘小值，作用也小：所以这里默认显示 权重 × 值范数。首词与分隔符常常收下别处用不着的权重。\n后面的层会叠加、抵消、绕开一个头所做的；在一张图里相似的两个词，对输出的作用可能大不相同。\n梯度说的是：只把一个权重改动一点点，答案会变多快。它没有说改动大了会怎样；而且权重之和为一，并不能单独改动。\n要说因果，就得改动并测量：关掉这个头，换掉这个词，再比较输出。'],
  provenance: ['Where the numbers come from', '数字的来历'], module: ['module', '模块'], kernel: ['kernel', '内核'], exactness: ['exactness', '精确度'], captured: ['captured', '已捕获'], calls: ['{0} calls; {1} missed', '{0} 次调用；遗漏 {1} 次'], batch: ['sequence', '序列'], 'one of': ['{0} of {1}', '{1} 个中的第 {0} 个'], 'left out': ['Left out of this file for its size', '因大小而未收入本文件'],
  'by weight': ['weight', '权重'], 'by norm': ['weight × value norm', '权重 × 值范数'], 'by gradient': ['weight × gradient', '权重 × 梯度'], gradient: ['gradient of the weight', '权重的梯度'], weighting: ['Weighting', '加权'],
  'is gradient': ['weight × its gradient towards {0}; orange raises it, blue lowers it', '权重 × 对{0}的梯度；橙色使其升高，蓝色使其降低'],
  'hold signed': ['{0} of {1} {2} make 80 %, signs aside', '不计符号，{1} 个{2}中 {0} 个占 80 %'], 'received signed': ['{0} in all, over {1} rows', '{1} 行合计 {0}'], 'strongest of': ['most of all at', '其中最强的是'],
  'faintest signed': ['The more opaque a line, the larger its part of the largest here; below {0} none is drawn.', '线越浓，占此处最大值的份额越大；小于 {0} 的不画。'], 'signed cells': ['in cells: hundredths of the largest, {0}', '格中为最大值 {0} 的百分之几'], 'lit signed': ['Orange raises it, blue lowers it; as opaque as a patch is strong here.', '橙色使其升高，蓝色使其降低；越浓越强。'],
  'is weight': ['weight', '权重'], 'is norm': ['weight × value norm, each row renormalised', '权重 × 值范数，每行重新归一'],
  'hide sinks': ['hide {0}', '隐藏{0}'], 'sinks hidden': ['{0} hidden, the rest renormalised', '已隐藏{0}，其余重新归一'], 'sinks kept': ['{0} hidden', '已隐藏{0}'],
  self: ['first and special tokens', '首词与特殊符号'], special: ['special tokens', '特殊符号'],
  'whole words': ['whole words', '整词'], 'pieces joined': ['pieces of a word joined: looked at, they add up; looking, they are averaged', '同词的词片合并：被看时相加，在看时取平均'], 'pieces added': ['pieces of a word joined: they add up', '同词的词片合并：相加'], 'word cells': ['a cell = the pieces of one word at those of another', '一格 = 一个词的各片看另一个词的各片'],
  'too long to join': ['Pieces are joined to words only where every weight is at hand; this input is too long.', '只有全部权重都在手边时才能把词片合成整词；此输入太长。'], 'no pieces': ['Every piece is a whole word here; there is nothing to join.', '这里每片都是整词，无可合并。'],
  colours: ['Colours', '颜色'], sqrt: ['square root', '平方根'], linear: ['linear', '线性'], log: ['logarithmic', '对数'],
  'row is': ['row = the {0} that looks (query), column = the {1} looked at (key)', '行 = 在看的{0}（query），列 = 被看的{1}（key）'],
  'band is': ['column = the {0} that looks (query), row = how far back it looks; from {1} on, distances are added up in groups', '列 = 在看的{0}（query），行 = 往回看多远；{1} 起若干距离相加为一行'],
  'how far back': ['how far back', '往回多远'], 'some queries': ['{0} of {1} rows', '{1} 行中的 {0} 行'], 'band sums': ['from {0} on a cell adds up several weights', '{0} 起一格为若干权重之和'],
  entropy: ['How undecided each word is', '每个词看得多分散'], 'entropy unit': ['entropy of its row, in bits', '该行的熵（比特）'], bits: ['{0} bits', '{0} 比特'], 'entropy of': ['{0} bits: as if evenly among {1} {2}', '{0} 比特：如同平均看 {1} 个{2}'], 'entropy about': ['{0} of {1} {2}; point at a bar to read it, click to keep.', '{1} 个{2}中的 {0} 个；指向条形即可读数，点击固定。'], 'entropy from to': ['entropy of the rows, from {0} to {1} bits, by {2}', '各行的熵，从 {0} 到 {1} 比特，按{2}'],
  'mean of': ['mean of {0} heads', '{0} 个头的平均'],
  'unit words': ['word', '词'], 'unit patches': ['patch', '图块'], 'unit frames': ['moment', '时刻'], 'unit places': ['place', '位置'], 'unit distance': ['distance', '距离'],
  'units words': ['words', '词'], 'units patches': ['patches', '图块'], 'units frames': ['moments', '时刻'], 'units places': ['places', '位置'],
  undo: ['Undo', '撤销'], redo: ['Redo', '重做'], find: ['Find', '查找'], help: ['Help', '帮助'], close: ['Close', '关闭'], theme: ['Light or dark', '明或暗'], language: ['中文', 'English'],
  'find what': ['a word, or a head such as L2 H3', '一个词，或一个头，如 L2 H3'], 'found none': ['Nothing found.', '没有找到。'], 'found many': ['{0} places; Enter: it looks, Shift+Enter: it is looked at', '{0} 处；回车：由它看；Shift+回车：看它'],
  searching: ['Searching…', '正在查找…'],
  exact: ['exact: every cell is one weight', '精确：一格一个权重'], 'cell weight': ['every cell is one weight', '一格一个权重'], coming: ['coming…', '正在取来…'], max: ['a cell = the largest of {0} keys, in one exact row of {0}', '一格 = {0} 行中精确取一行，{0} 个 key 中最大的权重'], tiles8: ['in 256 steps', '256 级'],
  'not kept': ['Not kept in this file.', '本文件未收入。'], failed: ['This could not be read: {0}', '无法读取：{0}'], gone: ['nobody answers any more; is polyhead see still running?', '已无应答；polyhead see 还在运行吗？'],
  'summary only': ['Only a summary was kept of this call: its small picture.', '这次调用只留有摘要：一张小图。'], 'by plain': ['by weight alone: this input is too long to weigh every row', '只按权重：输入太长，无法逐行加权'], 'a function': ['a function', '函数'],
  copied: ['Copied.', '已复制。'], saved: ['Saved {0}.', '已保存 {0}。'], 'no svg': ['An SVG of this view would be too large or has no lines; take the PNG.', '这个视图不宜存为 SVG；请存 PNG。'],
  'table cut': ['Shown are rows {0} to {1} of {2}.', '显示第 {0} 至 {1} 行，共 {2} 行。'], earlier: ['earlier', '前面'], later: ['later', '后面'],
  'metrics mean': ['What the metrics mean', '指标的含义'], 'sort hint': ['Click a heading to sort, a row to see the head.', '点表头排序，点行看该头。'], scatter: ['Two metrics against each other', '两个指标对照'], against: ['against', '对'],
  compare: ['Compare', '比较'], first: ['A', 'A'], second: ['B', 'B'], difference: ['A − B', 'A − B'],
  'is second': ['second recording (B)', '第二份记录（B）'], 'is difference': ['difference A − B, aligned by what both texts share; struck cells stand in one only', 'A − B 之差，按两文共有部分对齐；划掉的格只在一方'], 'is difference here': ['difference A − B in the places of A, struck where B has none', 'A − B 之差，按 A 的位置；B 没有的划掉'], 'is first': ['first recording (A)', '第一份记录（A）'],
  'none chosen': ['tint = what each {0} receives {1}, until one is chosen', '着色 = 每个{0}{1}所收，直到选定一个'], 'on average': ['on average', '平均'], 'in all': ['in all', '合计'],
  'heads are': ['Every head, one a row: its metrics, of plain weights', '每行一个头：它的各项指标，按单纯的权重计算'], 'trivial rows': ['Of rows that see more than one.', '只列能看到不止一个的行。'],
  'more in a': ['orange: more in A', '橙：A 更多'], 'more in b': ['blue: more in B', '蓝：B 更多'],
  missed: ['{0} attention calls of this run could not be seen.', '这次运行有 {0} 次注意力调用未能看到。'],
  'narrow': ['Regions', '区域'], skip: ['Skip to the picture', '跳到图'],
  keys: ['Keys', '按键'], 'key arrows': ['move by a cell (Shift: by ten)', '移动一格（Shift：十格）'], 'key heads': ['head before, head after', '上一头、下一头'], 'key layers': ['layer before, layer after', '上一层、下一层'], 'key find': ['find a word or a head', '查找词或头'], 'key esc': ['let go of what is chosen', '取消固定'], 'key undo': ['undo, redo', '撤销、重做'], 'key zoom': ['zoom, whole map', '缩放、整图'], 'key w': ['weight, × value norm, × gradient', '权重、× 值范数、× 梯度'], 'key s': ['hide or show special tokens', '隐藏或显示特殊符号'], 'key v': ['next view', '下一个视图'], 'key j': ['pieces or whole words', '词片或整词'], 'key play': ['play or pause the sound', '播放或暂停声音'],
  'help text': ['Left: where in the model. Middle: what is looked at. Right: which, and how much. Pointing previews, a click keeps. Blue is who looks, orange is who is looked at. The address holds what you see: send it, or go back.', '左：在模型的何处。中：看的是什么。右：是哪个，有多少。指向即预览，点击即固定。蓝色是在看的，橙色是被看的。地址栏记着你看到的一切：可以发给别人，也可以返回。'],
  follow: ['Follow this cell', '跟着这一格走'], 'nine stations': ['Nine stations, from words to output', '从词到输出的九站'],
  'follow cell': ['Choose one who looks and one who is looked at; then the numbers can be followed from words to output.', '先选定谁在看、谁被看，就能跟着这些数从词走到输出。'], 'follow head': ['Choose one head to follow.', '请选一个头。'], 'follow one': ['Choose A or B to follow.', '请选 A 或 B。'], 'follow near': ['These two are {0} pieces apart, too far to be followed: at most {1} are.', '两者相隔 {0} 个词片，太远；最多跟 {1} 个。'],
  'key l': ['follow the chosen cell through nine stations; Esc leads back', '跟着选定的一格走过九站；Esc 返回'],
  place: ['place', '位置'], share: ['weight', '权重'], 'query word': ['looks', '在看'], 'only strongest': ['This input is long: of each row, the strongest.', '输入很长：每行只列最强的。'],
};

export function language() {
  if (state.lang) return state.lang === 'zh' ? 'zh' : 'en';
  return (navigator.languages ?? [navigator.language]).some((name, n) => n === 0 && /^zh\b/i.test(name)) ? 'zh' : 'en';
}

export function say(name, ...with_) {
  const found = WORDS[name]?.[language() === 'zh' ? 1 : 0] ?? name;
  return with_.length ? found.replace(/\{(\d)\}/g, (_, n) => with_[n]) : found;
}

// What the recording says in both languages: told(metric), told(metric, 'about').
export function told(what, name) {
  const lang = language();
  return name ? what[`${name}_${lang}`] ?? what[`${name}_en`] ?? '' : what[lang] ?? what.en ?? what.key ?? '';
}

export function partName(part) {
  return WORDS[part] ? say(part) : part;
}

export function unit(ruler, n = 1) {
  return say(`${n === 1 ? 'unit' : 'units'} ${ruler.kind}`);
}

// A weight as it is written: a share, or a number where it is multiplied with its gradient; with its sign where it has one.
export const much = (w) => !apart() ? percent(w) : (w > 0 ? '+' : w < 0 ? '−' : '') + plainly(Math.abs(w));
export const plainly = (w) => state.weighting === 4 ? digits(w) : percent(w);
