'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const [boxes, arcs, stage] = ['boxes', 'arcs', 'stage'].map(id => document.getElementById(id));
// An instruction is [node, protocol, text, type, message, sent, material, multiply-adds, flows]; a flow is
// [source, owner, width.scale, shape, sent, material], its source a number of an instruction or the name of a weight.
const instructions = data.instructions;
const ofNode = data.nodes.map(() => []);
instructions.forEach((instr, i) => { if (instr) ofNode[instr[0]].push(i); });
const ofLayer = data.layers.map(() => []);
data.nodes.forEach(([, layer], node) => ofLayer[layer].push(node));
const unfolded = { layer: new Set(), node: new Set() };
let zoom = 1, wanted = '';

function bytes(n) {
  if (n < 1e3) return n + ' B';
  if (n < 1e6) return (n / 1e3).toFixed(1) + ' KB';
  return n < 1e9 ? (n / 1e6).toFixed(1) + ' MB' : (n / 1e9).toFixed(2) + ' GB';
}

function cost(list) {
  let sent = 0, material = 0, macs = 0;
  const rounds = new Set(), protocols = new Map();
  for (const i of list) {
    const instr = instructions[i];
    sent += instr[5]; material += instr[6]; macs += instr[7];
    if (instr[4].startsWith('round')) rounds.add(instr[4]);
    if (instr[5] + instr[6] > 0) protocols.set(instr[1], (protocols.get(instr[1]) || 0) + 1);
  }
  const parts = [];
  if (rounds.size) parts.push(rounds.size + (rounds.size > 1 ? ' rounds' : ' round'));
  if (sent) parts.push(bytes(sent) + ' sent');
  if (material) parts.push(bytes(material) + ' material');
  if (macs) parts.push((macs / 1e6).toFixed(1) + ' M multiply-adds');
  return (parts.join(', ') || 'local') + (protocols.size ? ' · ' + [...protocols.keys()].join(', ') : '');
}

// What is shown: boxes with the instructions that each stands for.
function visible() {
  const list = [];
  data.layers.forEach((name, layer) => {
    const all = ofLayer[layer].flatMap(node => ofNode[node]);
    if (!all.length) return;
    const open = unfolded.layer.has(layer);
    list.push({ kind: 'layer', id: layer, name: name + ' · ' + ofLayer[layer].length + ' nodes', all, own: open ? [] : all });
    if (!open) return;
    for (const node of ofLayer[layer]) {
      const inside = unfolded.node.has(node);
      list.push({ kind: 'node', id: node, name: data.nodes[node][0], all: ofNode[node], own: inside ? [] : ofNode[node] });
      if (!inside) continue;
      for (const i of ofNode[node]) {
        const instr = instructions[i];
        const name = (instr[3] ? 'v' + i + ' = ' : '') + instr[2] + (instr[3] ? ' : ' + instr[3] : '');
        list.push({ kind: 'instr', id: i, name, all: [i], own: [i] });
      }
    }
  });
  return list;
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}

function draw() {
  const list = visible(), home = new Map();
  list.forEach((item, at) => item.own.forEach(i => home.set(i, at)));
  boxes.replaceChildren();
  const links = [];
  list.forEach((item, at) => {
    const box = item.box = element('div', 'box ' + item.kind);
    const head = element('div', 'head');
    head.append(element('b', '', item.name), element('span', 'dim',
      (item.kind === 'instr' && instructions[item.id][4] ? instructions[item.id][4] + ' · ' : '') + cost(item.all)));
    head.onclick = () => toggle(item);
    box.append(head);
    if (wanted && item.kind === 'node' && item.name.toLowerCase().includes(wanted)) box.classList.add('found');
    // One line for each value that comes from another box.
    const flows = new Map();
    for (const i of item.own) {
      for (const [source, owner, width, shape, sent, material] of instructions[i][8]) {
        const from = home.get(source);
        if (from === at) continue;
        const flow = flows.get(source) || { from, owner, width, shape, by: new Set(), sent: 0, material: 0 };
        flow.by.add(instructions[i][1]); flow.sent += sent; flow.material += material;
        flows.set(source, flow);
      }
    }
    for (const [source, flow] of flows) {
      const name = flow.from === undefined ? source : list[flow.from].name.split(' = ')[0];
      const price = flow.sent + flow.material ? bytes(flow.sent) + ' sent, ' + bytes(flow.material) + ' material' : 'local';
      box.append(element('div', 'flow',
        '← ' + name + ' · ' + flow.owner + ' <' + flow.width + '>' + flow.shape + ' · ' + [...flow.by].join(', ') + ' · ' + price));
      if (flow.from !== undefined && flow.from < at - 1) links.push([flow.from, at]);
    }
    boxes.append(box);
  });
  arcs.setAttribute('height', boxes.offsetHeight);
  arcs.replaceChildren();
  const drawn = new Set();
  for (const [from, to] of links) {
    const key = from + ' ' + to;
    if (drawn.has(key)) continue;
    drawn.add(key);
    const a = list[from].box, b = list[to].box;
    const y0 = a.offsetTop + a.offsetHeight - 6, y1 = b.offsetTop + 10, reach = 84 - Math.min(78, 6 + (to - from) * 5);
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('d', `M88 ${y0}C${reach} ${y0} ${reach} ${y1} 88 ${y1}`);
    path.setAttribute('fill', 'none');
    path.setAttribute('stroke', 'var(--blue)');
    path.setAttribute('stroke-opacity', '.55');
    arcs.append(path);
  }
}

function toggle({ kind, id }) {
  if (kind === 'instr') return;
  const set = unfolded[kind];
  if (!set.delete(id)) set.add(id);
  draw();
}

const on = (id, event, action) => { document.getElementById(id)[event] = action; };
on('open', 'onclick', () => { data.layers.forEach((_, layer) => unfolded.layer.add(layer)); draw(); });
on('close', 'onclick', () => { unfolded.layer.clear(); unfolded.node.clear(); draw(); });
const scale = factor => { zoom = Math.min(3, Math.max(0.2, zoom * factor)); stage.style.transform = `scale(${zoom})`; };
on('less', 'onclick', () => scale(1 / 1.25));
on('more', 'onclick', () => scale(1.25));
addEventListener('wheel', e => { if (e.ctrlKey) { e.preventDefault(); scale(e.deltaY < 0 ? 1.1 : 1 / 1.1); } }, { passive: false });
on('find', 'onchange', e => {
  wanted = e.target.value.trim().toLowerCase();
  if (wanted) data.nodes.forEach(([name, layer]) => { if (name.toLowerCase().includes(wanted)) unfolded.layer.add(layer); });
  draw();
  document.querySelector('.found')?.scrollIntoView({ block: 'center' });
});
addEventListener('resize', draw);
draw();
