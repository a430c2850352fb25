//! Attention and rotary embedding as one operator each, of the standard set and of onnxruntime's, written as older exports
//! spell them: that is what the fusion passes look for.

use super::norm::layer_norm_rows;
use super::{Call, Handler, One, Results, Writer, stated};
use crate::graph::kernel::{Element, View, from_vec};
use crate::graph::shape::broadcast;
use crate::graph::{DType, Function, Op, Tensor};
use crate::onnx::build::{Builder, Value};

pub(super) const TABLE: &[(&str, Handler)] = &[
    ("Attention", attention),
    ("RotaryEmbedding", rotary_embedding),
    ("com.microsoft.Attention", packed_attention),
    ("com.microsoft.MultiHeadAttention", multi_head_attention),
    ("com.microsoft.GroupQueryAttention", group_query_attention),
    ("com.microsoft.RotaryEmbedding", contrib_rotary_embedding),
    ("com.microsoft.EmbedLayerNormalization", embed_layer_normalization),
];

/// What an attention does beside its products. Queries are [batch, heads, rows, d], keys and values
/// [batch, kv_heads, columns, d].
struct About {
    scale: f32,
    softcap: f32,
    /// Which scores are kept, as far as that is public: [.., rows, columns].
    kept: Option<Tensor>,
    /// What is added to the scores.
    bias: Option<Value>,
}

/// Dimensions of what must be [batch, heads, rows, d].
fn sizes(w: &Writer, x: &Value) -> Result<[usize; 4], String> {
    let shape = w.shape(x);
    <[usize; 4]>::try_from(&shape[..]).map_err(|_| format!("shape {shape:?} has no heads"))
}

/// The result [batch, heads, rows, d], and the scores as they come, capped, biased, as probabilities.
fn attend(w: &mut Writer, q: &Value, k: &Value, v: &Value, about: &About) -> Result<(Value, [Value; 4]), String> {
    let ([_, heads, ..], [_, kv_heads, ..]) = (sizes(w, q)?, sizes(w, k)?);
    sizes(w, v)?;
    if kv_heads == 0 || heads % kv_heads != 0 {
        return Err(format!("{heads} heads do not share {kv_heads} heads of keys and values"));
    }
    let (k, v) = (repeated(w, k, heads / kv_heads)?, repeated(w, v, heads / kv_heads)?);
    let transposed = w.transpose(&k, &[0, 1, 3, 2])?;
    let scores = w.matmul(q, &transposed)?;
    let scores = w.times(&scores, about.scale)?;
    let capped = match about.softcap {
        0.0 => scores.clone(),
        cap => {
            let small = w.div(&scores, &Value::scalar(cap))?;
            let small = w.unary(Function::Tanh {}, &small)?;
            w.mul(&small, &Value::scalar(cap))?
        }
    };
    let mut biased = capped.clone();
    let mut empty = None;
    if let Some(Tensor::Bool(kept)) = &about.kept {
        let shape = kept.shape().to_vec();
        let [lead @ .., columns] = &shape[..] else { return Err("its mask has no columns".into()) };
        let (lead, columns) = (lead.to_vec(), *columns);
        let mut mask: Vec<f32> = kept.iter().map(|&k| if k { 0.0 } else { f32::NEG_INFINITY }).collect();
        // A row that keeps nothing gives zeros.
        let rows: Vec<f32> = mask
            .chunks_mut(columns.max(1))
            .map(|row| {
                let is_empty = row.iter().all(|&x| x != 0.0);
                if is_empty {
                    row.fill(0.0);
                }
                f32::from(u8::from(!is_empty))
            })
            .collect();
        if mask.iter().any(|&x| x != 0.0) {
            biased = w.add(&biased, &Value::public(Tensor::F32(from_vec(&shape, mask))))?;
        }
        if rows.contains(&0.0) {
            empty = Some(Value::public(Tensor::F32(from_vec(&[&lead[..], &[1]].concat(), rows))));
        }
    }
    if let Some(bias) = &about.bias {
        biased = w.add(&biased, bias)?;
    }
    let mut probabilities = w.op(Op::Softmax { axis: 3 }, &[&biased])?;
    if let Some(rows) = empty {
        probabilities = w.mul(&probabilities, &rows)?;
    }
    let y = w.matmul(&probabilities, &v)?;
    Ok((y, [scores, capped, biased, probabilities]))
}

/// Each head `count` times.
fn repeated(w: &mut Writer, x: &Value, count: usize) -> One {
    if count == 1 {
        return Ok(x.clone());
    }
    let shape = w.shape(x);
    let [batch, heads, rows, width] = shape[..] else { return Err("its keys have no heads".into()) };
    let x = w.reshape(x, &[batch, heads, 1, rows, width])?;
    let x = w.expand(&x, &[batch, heads, count, rows, width])?;
    w.reshape(&x, &[batch, heads * count, rows, width])
}

/// [batch, rows, heads·d] as [batch, heads, rows, d].
fn split_heads(w: &mut Writer, x: &Value, heads: usize) -> One {
    let shape = w.shape(x);
    match shape[..] {
        [batch, rows, width] if heads > 0 && width % heads == 0 => {
            let x = w.reshape(x, &[batch, rows, heads, width / heads])?;
            w.transpose(&x, &[0, 2, 1, 3])
        }
        _ => Err(format!("{shape:?} does not split into {heads} heads")),
    }
}

fn merge_heads(w: &mut Writer, x: &Value) -> One {
    let shape = w.shape(x);
    let x = w.transpose(x, &[0, 2, 1, 3])?;
    w.reshape(&x, &[shape[0], shape[2], shape[1] * shape[3]])
}

/// Whether column j is kept in row i.
fn kept(w: &mut Writer, rows: usize, columns: usize, keeps: impl Fn(i64, i64) -> bool) -> Result<Tensor, String> {
    let at = |n: usize| keeps((n / columns) as i64, (n % columns) as i64);
    Ok(Tensor::Bool(from_vec(&[rows, columns], (0..w.b.make(&[rows, columns])?).map(at).collect())))
}

/// Both must keep a score.
fn both(w: &mut Writer, a: Option<Tensor>, b: Option<Tensor>) -> Result<Option<Tensor>, String> {
    match (a, b) {
        (Some(a), Some(b)) => {
            w.b.make(&broadcast(a.shape(), b.shape())?)?;
            crate::onnx::public::logic(&a.view(), &b.view(), |a, b| a & b).map(Some)
        }
        (a, b) => Ok(a.or(b)),
    }
}

/// A new part of a cache after what is there already.
fn cached(w: &mut Writer, past: Option<&Value>, new: Value) -> One {
    match past {
        Some(past) => w.concat(2, &[past.clone(), new]),
        None => Ok(new),
    }
}

/// The operator of the standard set, from version 23 on.
fn attention(b: &mut Builder, c: &Call) -> Results {
    let mut w = c.write(b);
    let rank = w.shape(c.operand(0)?).len();
    let part = |w: &mut Writer, i: usize, heads: &str| match rank {
        3 => split_heads(w, c.operand(i)?, stated(c.int(heads, 0))?),
        4 => Ok(c.operand(i)?.clone()),
        _ => Err(format!("operand {i} has rank {rank}")),
    };
    let q = part(&mut w, 0, "q_num_heads")?;
    let (k, v) = (part(&mut w, 1, "kv_num_heads")?, part(&mut w, 2, "kv_num_heads")?);
    let past = c.optional(4).map_or(0, |past| w.shape(past).get(2).copied().unwrap_or(0));
    let (k, v) = (cached(&mut w, c.optional(4), k)?, cached(&mut w, c.optional(5), v)?);
    let ([batch, _, rows, width], [_, _, columns, _]) = (sizes(&w, &q)?, sizes(&w, &k)?);
    let lengths = c.optional(6).map(|_| c.integers(6)).transpose()?;
    if let Some(lengths) = &lengths
        && (lengths.len() != batch || lengths.iter().any(|n| !(0..=columns as i64).contains(n)))
    {
        return Err("its lengths do not fit its batch and its keys".into());
    }
    // Where the first row stands among the columns.
    let offsets: Vec<i64> = match &lengths {
        Some(lengths) => lengths.iter().map(|&n| n - rows as i64).collect(),
        None => vec![past as i64],
    };
    let (causal, left, right) =
        (c.int("is_causal", 0) != 0, c.int("left_window_size", -1), c.int("right_window_size", -1));
    let mut mask: Option<Tensor> = None;
    if causal || left >= 0 || right >= 0 || lengths.is_some() {
        let planes: Vec<Tensor> = offsets
            .iter()
            .enumerate()
            .map(|(n, offset)| {
                kept(&mut w, rows, columns, |i, j| {
                    let at = i + offset;
                    (!causal || j <= at)
                        && (left < 0 || at - j <= left)
                        && (right < 0 || j - at <= right)
                        && lengths.as_ref().is_none_or(|l| j < l[n])
                })
            })
            .collect::<Result<_, _>>()?;
        let all: Vec<bool> =
            planes.iter().flat_map(|p| bool::of(&p.view()).iter().copied().collect::<Vec<_>>()).collect();
        let shape = if planes.len() == 1 { vec![rows, columns] } else { vec![batch, 1, rows, columns] };
        mask = Some(Tensor::Bool(from_vec(&shape, all)));
    }
    let mut bias = None;
    if let Some(given) = c.optional(3) {
        // What the mask does not reach is dropped.
        let reach = w.shape(given).last().copied().unwrap_or(columns);
        if reach < columns {
            let reached = kept(&mut w, 1, columns, |_, j| j < reach as i64)?;
            mask = both(&mut w, mask, Some(reached))?;
        }
        let rank = w.shape(given).len();
        let missing = columns.saturating_sub(reach);
        let fill = |value: &Value, w: &mut Writer| -> One {
            if missing == 0 {
                return Ok(given.clone());
            }
            let mut shape = w.shape(given);
            shape[rank - 1] = missing;
            let rest = w.expand(value, &shape)?;
            w.concat(rank - 1, &[given.clone(), rest])
        };
        match given.view() {
            Some(View::Bool(_)) => {
                let no = Value::public(Tensor::Bool(ndarray::arr0(false).into_dyn()));
                let full = fill(&no, &mut w)?;
                let Some(View::Bool(given)) = full.view() else { return Err("its mask is not public".into()) };
                mask = both(&mut w, mask, Some(Tensor::Bool(given.to_owned())))?;
            }
            _ => bias = Some(fill(&Value::scalar(0.0), &mut w)?),
        }
        if bias.as_ref().is_some_and(|bias| w.b.typed(bias).1 != DType::F32) {
            return Err("its mask holds neither floats nor public truths".into());
        }
    }
    // A public bias of infinities alone is a mask too, so that rows that keep nothing are seen.
    if let Some(View::F32(numbers)) = bias.as_ref().and_then(Value::view)
        && matches!(bias, Some(Value::Public(_)))
        && numbers.iter().all(|&x| x == 0.0 || x == f32::NEG_INFINITY)
    {
        mask = both(&mut w, mask, Some(Tensor::Bool(numbers.mapv(|x| x == 0.0))))?;
        bias = None;
    }
    let about = About {
        scale: c.float("scale", 1.0 / (width as f32).sqrt()),
        softcap: c.float("softcap", 0.0),
        kept: mask,
        bias,
    };
    let (y, stages) = attend(&mut w, &q, &k, &v, &about)?;
    let y = if rank == 3 { merge_heads(&mut w, &y)? } else { y };
    let mode = usize::try_from(c.int("qk_matmul_output_mode", 0)).ok().filter(|&m| m < 4);
    let stage = stages[mode.ok_or("its output mode is not known")?].clone();
    Ok(vec![y, k, v, stage])
}

/// x·cos + rotate(x)·sin on the first `turned` elements of each head. x is [batch, heads, rows, d], cos and sin
/// [batch or 1, 1, rows, turned / 2].
fn rotate(w: &mut Writer, x: &Value, cos: &Value, sin: &Value, interleaved: bool) -> One {
    let shape = sizes(w, x)?;
    let half = sizes(w, cos)?[3];
    let (lead, width) = (&shape[..3], shape[3]);
    if 2 * half > width {
        return Err(format!("it turns {} elements of heads of {width}", 2 * half));
    }
    let turned = w.slice(x, 3, 0, 2 * half)?;
    let wide = |w: &mut Writer, table: &Value| -> One {
        if !interleaved {
            return w.concat(3, &[table.clone(), table.clone()]);
        }
        let shape = w.shape(table);
        let table = w.reshape(table, &[&shape[..], &[1]].concat())?;
        let table = w.expand(&table, &[&shape[..], &[2]].concat())?;
        w.reshape(&table, &[&shape[..3], &[2 * half]].concat())
    };
    let (cos, sin) = (wide(w, cos)?, wide(w, sin)?);
    let rotated = if interleaved {
        let pairs = w.reshape(&turned, &[lead, &[half, 2]].concat())?;
        let (first, second) = (w.slice(&pairs, 4, 0, 1)?, w.slice(&pairs, 4, 1, 2)?);
        let second = w.neg(&second)?;
        let pairs = w.concat(4, &[second, first])?;
        w.reshape(&pairs, &[lead, &[2 * half]].concat())?
    } else {
        let (first, second) = (w.slice(&turned, 3, 0, half)?, w.slice(&turned, 3, half, 2 * half)?);
        let second = w.neg(&second)?;
        w.concat(3, &[second, first])?
    };
    let (a, b) = (w.mul(&turned, &cos)?, w.mul(&rotated, &sin)?);
    let y = w.add(&a, &b)?;
    if 2 * half == width {
        return Ok(y);
    }
    let rest = w.slice(x, 3, 2 * half, width)?;
    w.concat(3, &[y, rest])
}

/// Rows of a table of cos or sin for positions [batch, rows] (or what stands there already), for [`rotate`].
fn rows_of_table(w: &mut Writer, table: &Value, positions: Option<&Value>) -> One {
    let table = match positions {
        Some(positions) => w.op(Op::Gather { axis: 0 }, &[table, positions])?,
        None => table.clone(),
    };
    let shape = w.shape(&table);
    match shape[..] {
        [batch, rows, half] => w.reshape(&table, &[batch, 1, rows, half]),
        [rows, half] => w.reshape(&table, &[1, 1, rows, half]),
        _ => Err(format!("its tables have shape {shape:?}")),
    }
}

/// A rotation of what may have its heads side by side.
fn rotated(w: &mut Writer, c: &Call, x: &Value, heads: usize, tables: (Value, Value), interleaved: bool) -> One {
    let flat = w.shape(x).len() == 3;
    let heads = match heads {
        // The tables say how wide a head is, if it turns as a whole.
        0 if flat => w.shape(x)[2] / (2 * w.shape(&tables.0)[3]).max(1),
        heads => heads,
    };
    let x = if flat { split_heads(w, x, heads)? } else { x.clone() };
    let turned = stated(c.int("rotary_embedding_dim", 0))?;
    let cut = |w: &mut Writer, table: Value| match turned {
        0 => Ok(table),
        turned if turned / 2 <= w.shape(&table)[3] => w.slice(&table, 3, 0, turned / 2),
        _ => Err("its tables are too narrow".to_string()),
    };
    let (cos, sin) = (cut(w, tables.0)?, cut(w, tables.1)?);
    let y = rotate(w, &x, &cos, &sin, interleaved)?;
    if flat { merge_heads(w, &y) } else { Ok(y) }
}

fn rotary_embedding(b: &mut Builder, c: &Call) -> Results {
    let mut w = c.write(b);
    let positions = c.optional(3);
    let tables = (rows_of_table(&mut w, c.operand(1)?, positions)?, rows_of_table(&mut w, c.operand(2)?, positions)?);
    let heads = stated(c.int("num_heads", 0))?;
    Ok(vec![rotated(&mut w, c, c.operand(0)?, heads, tables, c.int("interleaved", 0) != 0)?])
}

/// Positions [batch, rows] from one start, or as they are given.
fn positions(w: &mut Writer, given: &Value, batch: usize, rows: usize) -> One {
    let found: Vec<i64> = match given.view() {
        Some(View::I64(a)) => a.iter().copied().collect(),
        _ => return Err("its positions are not public integers".into()),
    };
    let count = w.b.make(&[batch, rows])?;
    let all = match found[..] {
        [start] if count != 1 => (0..count).map(|n| start.saturating_add((n % rows) as i64)).collect(),
        _ if found.len() == count => found,
        _ => return Err("its positions do not fit its rows".into()),
    };
    Ok(Value::public(Tensor::I64(from_vec(&[batch, rows], all))))
}

fn contrib_rotary_embedding(b: &mut Builder, c: &Call) -> Results {
    let mut w = c.write(b);
    let shape = w.shape(c.operand(0)?);
    let (batch, rows) = match shape[..] {
        [batch, rows, _] | [batch, _, rows, _] => (batch, rows),
        _ => return Err(format!("its operand has shape {shape:?}")),
    };
    if c.int("is_packed_batching", 0) != 0 {
        return Err("its batch is packed".into());
    }
    let at = positions(&mut w, c.operand(1)?, batch, rows)?;
    let tables = (rows_of_table(&mut w, c.operand(2)?, Some(&at))?, rows_of_table(&mut w, c.operand(3)?, Some(&at))?);
    let heads = stated(c.int("num_heads", 0))?;
    let y = rotated(&mut w, c, c.operand(0)?, heads, tables, c.int("interleaved", 0) != 0)?;
    Ok(vec![w.times(&y, c.float("scale", 1.0))?])
}

/// What onnxruntime's masks of integers keep: lengths [batch], [batch, columns], [batch, rows, columns].
fn integer_mask(w: &mut Writer, mask: &Value, batch: usize, columns: usize) -> Result<Tensor, String> {
    let shape = w.shape(mask);
    let Some(View::I64(numbers)) = mask.view() else { return Err("its mask is not public".into()) };
    let flat: Vec<i64> = numbers.iter().copied().collect();
    match shape[..] {
        [n] if n == batch => {
            let keeps = |at: usize| ((at % columns) as i64) < flat[at / columns];
            Ok(Tensor::Bool(from_vec(&[batch, 1, 1, columns], (0..w.b.make(&[batch, columns])?).map(keeps).collect())))
        }
        [n, m] if n == batch && m == columns => {
            Ok(Tensor::Bool(from_vec(&[batch, 1, 1, columns], flat.iter().map(|&x| x != 0).collect())))
        }
        [n, rows, m] if n == batch && m == columns => {
            Ok(Tensor::Bool(from_vec(&[batch, 1, rows, columns], flat.iter().map(|&x| x != 0).collect())))
        }
        _ => Err(format!("its mask has shape {shape:?}, which is not supported")),
    }
}

/// onnxruntime's attention with one matrix for queries, keys and values.
fn packed_attention(b: &mut Builder, c: &Call) -> Results {
    if c.int("do_rotary", 0) != 0 || c.int("past_present_share_buffer", 0) != 0 {
        return Err("it rotates, or its past shares a buffer".into());
    }
    let mut w = c.write(b);
    let heads = stated(c.int("num_heads", 0))?;
    let product = w.matmul(c.operand(0)?, c.operand(1)?)?;
    let packed = match c.optional(2) {
        Some(bias) => w.add(&product, bias)?,
        None => product,
    };
    let shape = w.shape(&packed);
    let [_, _, width] = shape[..] else { return Err(format!("queries, keys and values have shape {shape:?}")) };
    let widths = match c.ints("qkv_hidden_sizes") {
        Some(sizes) if sizes.len() == 3 => sizes.into_iter().map(stated).collect::<Result<Vec<_>, _>>()?,
        Some(sizes) => return Err(format!("it has {} widths, not 3", sizes.len())),
        None => vec![width / 3; 3],
    };
    if widths.iter().sum::<usize>() != width {
        return Err("its widths do not make up its matrix".into());
    }
    let mut parts = Vec::new();
    let mut from = 0;
    for size in widths {
        let part = w.slice(&packed, 2, from, from + size)?;
        parts.push(split_heads(&mut w, &part, heads)?);
        from += size;
    }
    let (mut k, mut v) = (parts[1].clone(), parts[2].clone());
    if let Some(past) = c.optional(4) {
        // [2, batch, heads, rows, d].
        let shape = w.shape(past);
        let mut half = |n: usize| -> One {
            let part = w.slice(past, 0, n, n + 1)?;
            w.reshape(&part, shape.get(1..).ok_or("its past has no dimensions")?)
        };
        let (old_k, old_v) = (half(0)?, half(1)?);
        (k, v) = (w.concat(2, &[old_k, k])?, w.concat(2, &[old_v, v])?);
    }
    let about = contrib_about(&mut w, c, &parts[0], &k, c.optional(3), c.optional(5))?;
    let (y, _) = attend(&mut w, &parts[0], &k, &v, &about)?;
    let y = merge_heads(&mut w, &y)?;
    if c.node.output.get(1).is_none_or(String::is_empty) {
        return Ok(vec![y]);
    }
    let shape = [&[1], &w.shape(&k)[..]].concat();
    let (k, v) = (w.reshape(&k, &shape)?, w.reshape(&v, &shape)?);
    Ok(vec![y, w.concat(0, &[k, v])?])
}

/// Scale, mask and bias of onnxruntime's attentions.
fn contrib_about(
    w: &mut Writer,
    c: &Call,
    q: &Value,
    k: &Value,
    mask: Option<&Value>,
    bias: Option<&Value>,
) -> Result<About, String> {
    let ([batch, _, rows, width], [_, _, columns, _]) = (sizes(w, q)?, sizes(w, k)?);
    let mut keeps = None;
    if c.int("unidirectional", 0) != 0 {
        let offset = columns.saturating_sub(rows) as i64;
        keeps = Some(kept(w, rows, columns, |i, j| j <= i + offset)?);
    }
    if let Some(mask) = mask {
        let mask = integer_mask(w, mask, batch, columns)?;
        keeps = both(w, keeps, Some(mask))?;
    }
    let scale = match c.float("scale", 0.0) {
        0.0 => 1.0 / (width as f32).sqrt(),
        scale => scale,
    };
    Ok(About { scale, softcap: c.float("softcap", 0.0), kept: keeps, bias: bias.cloned() })
}

fn multi_head_attention(b: &mut Builder, c: &Call) -> Results {
    let mut w = c.write(b);
    let heads = stated(c.int("num_heads", 0))?;
    let (Some(key), Some(value)) = (c.optional(1), c.optional(2)) else {
        return Err("its queries, keys and values are packed".into());
    };
    let mut parts = Vec::new();
    let mut from = 0;
    for x in [c.operand(0)?, key, value] {
        let shape = w.shape(x);
        let x = match (c.optional(3), shape.len()) {
            (Some(bias), 3) => {
                let bias = w.slice(bias, 0, from, from + shape[2])?;
                from += shape[2];
                w.add(x, &bias)?
            }
            (Some(_), _) => return Err("it adds a bias to what has heads already".into()),
            (None, _) => x.clone(),
        };
        parts.push(match shape.len() {
            3 => split_heads(&mut w, &x, heads)?,
            4 => x,
            _ => return Err("its queries, keys and values are packed".into()),
        });
    }
    let (k, v) = (cached(&mut w, c.optional(6), parts[1].clone())?, cached(&mut w, c.optional(7), parts[2].clone())?);
    let about = contrib_about(&mut w, c, &parts[0], &k, c.optional(4), c.optional(5))?;
    let (y, _) = attend(&mut w, &parts[0], &k, &v, &about)?;
    Ok(vec![merge_heads(&mut w, &y)?, k, v])
}

/// Causal attention of many heads on few, with rotation.
fn group_query_attention(b: &mut Builder, c: &Call) -> Results {
    let mut w = c.write(b);
    let (heads, kv_heads) = (stated(c.int("num_heads", 0))?, stated(c.int("kv_num_heads", 0))?);
    let (q, k, v) = match (c.optional(1), c.optional(2)) {
        (Some(k), Some(v)) => (c.operand(0)?.clone(), k.clone(), v.clone()),
        _ => {
            let packed = c.operand(0)?;
            let shape = w.shape(packed);
            let parts = heads + 2 * kv_heads;
            let [_, _, width] = shape[..] else { return Err("its queries have no heads".into()) };
            if parts == 0 || width % parts != 0 {
                return Err("its width does not split into heads".into());
            }
            let d = width / parts;
            (
                w.slice(packed, 2, 0, heads * d)?,
                w.slice(packed, 2, heads * d, (heads + kv_heads) * d)?,
                w.slice(packed, 2, (heads + kv_heads) * d, width)?,
            )
        }
    };
    let (mut q, mut k) = (split_heads(&mut w, &q, heads)?, split_heads(&mut w, &k, kv_heads)?);
    let v = split_heads(&mut w, &v, kv_heads)?;
    let shape = w.shape(&q);
    let (batch, rows) = (shape[0], shape[2]);
    let past = c.optional(3).map_or(0, |past| w.shape(past).get(2).copied().unwrap_or(0));
    if c.integers(5)?.iter().any(|&last| last.saturating_add(1) != (past + rows) as i64) {
        return Err("its batch elements differ in length, or its cache has room for more".into());
    }
    if c.int("smooth_softmax", 0) != 0 || c.optional(11).is_some() {
        return Err("its softmax has a sink".into());
    }
    if c.int("do_rotary", 0) != 0 {
        let at = match c.optional(9) {
            Some(given) => positions(&mut w, given, batch, rows)?,
            None => positions(&mut w, &Value::integers(vec![past as i64]), batch, rows)?,
        };
        let cos = rows_of_table(&mut w, c.operand(7)?, Some(&at))?;
        let sin = rows_of_table(&mut w, c.operand(8)?, Some(&at))?;
        let interleaved = c.int("rotary_interleaved", 0) != 0;
        q = rotate(&mut w, &q, &cos, &sin, interleaved)?;
        k = rotate(&mut w, &k, &cos, &sin, interleaved)?;
    }
    let (k, v) = (cached(&mut w, c.optional(3), k)?, cached(&mut w, c.optional(4), v)?);
    let columns = sizes(&w, &k)?[2];
    let window = c.int("local_window_size", -1);
    let mut about = contrib_about(&mut w, c, &q, &k, None, c.optional(10))?;
    about.kept = Some(kept(&mut w, rows, columns, |i, j| {
        let at = i + past as i64;
        j <= at && (window < 0 || at - j < window)
    })?);
    let (y, _) = attend(&mut w, &q, &k, &v, &about)?;
    Ok(vec![merge_heads(&mut w, &y)?, k, v])
}

/// Rows for tokens, positions and segments, summed and normalised.
fn embed_layer_normalization(b: &mut Builder, c: &Call) -> Results {
    let mut w = c.write(b);
    let ids = c.operand(0)?;
    let shape = w.shape(ids);
    let &[batch, rows] = &shape[..] else { return Err("its token ids are no matrix".into()) };
    let words = w.op(Op::Gather { axis: 0 }, &[c.operand(2)?, ids])?;
    let at = match c.optional(8) {
        Some(given) => given.clone(),
        None => Value::public(Tensor::I64(from_vec(&[1, rows], (0..w.b.make(&[rows])? as i64).collect()))),
    };
    let places = w.op(Op::Gather { axis: 0 }, &[c.operand(3)?, &at])?;
    let mut sum = w.add(&words, &places)?;
    if let (Some(segments), Some(table)) = (c.optional(1), c.optional(4)) {
        let segments = w.op(Op::Gather { axis: 0 }, &[table, segments])?;
        sum = w.add(&sum, &segments)?;
    }
    let y = layer_norm_rows(&mut w, &sum, c.operand(5)?, c.optional(6), c.float("epsilon", 1e-12))?;
    // Lengths; without a mask onnxruntime gives zeros.
    let lengths = match c.optional(7) {
        Some(mask) => {
            let sums = w.sum(mask, &[1])?;
            w.reshape(&sums, &[batch])?
        }
        None => Value::integers(vec![0; w.b.make(&[batch])?]),
    };
    Ok(vec![y, lengths, sum])
}
