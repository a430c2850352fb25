//! Pages that need no network: text and drawings in one file, nothing fetched.

use std::fmt::{Display, Write};

const STYLE: &str = "\
:root{--ink:#1c2024;--dim:#6b7280;--line:#d4d8dd;--paper:#fff;--soft:#f4f6f8;--blue:#2563eb;--red:#c81e1e;--green:#15803d}
@media (prefers-color-scheme:dark){:root{--ink:#e6e8ea;--dim:#9aa3ad;--line:#3a4048;--paper:#16191d;--soft:#20252b;--blue:#7aa2ff;--red:#ff7b72;--green:#5fd38a}}
body{font:14px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:1.5rem auto;max-width:72rem;padding:0 1rem}
h1{font-size:1.3rem}h2{font-size:1.05rem;margin-top:2rem}
table{border-collapse:collapse}th,td{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
th{color:var(--dim);font-weight:500}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
code{font:12px/1.4 ui-monospace,monospace}.dim{color:var(--dim)}.bad{color:var(--red)}
svg text{font:11px system-ui,sans-serif;fill:var(--dim)}
";

/// Text as it stands in HTML and SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A whole page; `title` is text, the others are HTML, CSS and JavaScript.
pub fn document(title: &str, style: &str, body: &str, script: &str) -> String {
    let title = escape(title);
    let script = if script.is_empty() { String::new() } else { format!("<script>{script}</script>\n") };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>{STYLE}{style}</style></head>\n<body>\n{body}{script}</body></html>\n"
    )
}

/// A table of cells that are HTML; columns from `numbers` on are aligned to the right.
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>, numbers: usize) -> String {
    let class = |column: usize| if column >= numbers { " class=\"n\"" } else { "" };
    let mut out = "<table><tr>".to_owned();
    for (column, cell) in head.iter().enumerate() {
        let _ = write!(out, "<th{}>{cell}</th>", class(column));
    }
    out.push_str("</tr>\n");
    for row in rows {
        out.push_str("<tr>");
        for (column, cell) in row.iter().enumerate() {
            let _ = write!(out, "<td{}>{cell}</td>", class(column));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table>\n");
    out
}

/// A drawing with axes. Coordinates are those of the data.
pub struct Plot {
    size: (f64, f64),
    x: (f64, f64),
    y: (f64, f64),
    body: String,
}

/// Left, top, right and bottom margins.
const MARGIN: (f64, f64, f64, f64) = (58.0, 12.0, 12.0, 34.0);

impl Plot {
    /// Of a size in pixels, for data within `x` and `y`.
    pub fn new(size: (f64, f64), x: (f64, f64), y: (f64, f64)) -> Plot {
        let open = |(lo, hi): (f64, f64)| if hi > lo { (lo, hi) } else { (lo - 0.5, lo + 0.5) };
        Plot { size, x: open(x), y: open(y), body: String::new() }
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (left, top, right, bottom) = MARGIN;
        let part = |v: f64, (lo, hi): (f64, f64)| ((v - lo) / (hi - lo)).clamp(0.0, 1.0);
        let (width, height) = (self.size.0 - left - right, self.size.1 - top - bottom);
        (left + part(x, self.x) * width, top + (1.0 - part(y, self.y)) * height)
    }

    /// A tick of the vertical axis, with a line across.
    pub fn tick_y(&mut self, y: f64, label: impl Display) {
        let ((x0, at), (x1, _)) = (self.at(self.x.0, y), self.at(self.x.1, y));
        let _ = write!(
            self.body,
            "<path d=\"M{x0:.1} {at:.1}H{x1:.1}\" stroke=\"var(--line)\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            x0 - 6.0,
            at + 4.0
        );
    }

    /// A tick of the horizontal axis, with a line across.
    pub fn tick_x(&mut self, x: f64, label: impl Display) {
        let ((at, y0), (_, y1)) = (self.at(x, self.y.0), self.at(x, self.y.1));
        let _ = write!(
            self.body,
            "<path d=\"M{at:.1} {y0:.1}V{y1:.1}\" stroke=\"var(--line)\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            y0 + 15.0
        );
    }

    /// A name below the horizontal axis.
    pub fn label_at(&mut self, x: f64, label: &str) {
        let (at, y0) = self.at(x, self.y.0);
        let y = y0 + 15.0;
        let _ = write!(self.body, "<text x=\"{at:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", escape(label));
    }

    /// What the horizontal axis shows.
    pub fn label_x(&mut self, label: &str) {
        let (x, y) = ((MARGIN.0 + self.size.0) / 2.0, self.size.1 - 4.0);
        let _ = write!(self.body, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", escape(label));
    }

    /// A line through points.
    pub fn line(&mut self, points: impl IntoIterator<Item = (f64, f64)>, colour: &str) {
        let points: Vec<String> =
            points.into_iter().map(|(x, y)| self.at(x, y)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = write!(
            self.body,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"var(--{colour})\" stroke-width=\"1.2\"/>",
            points.join(" ")
        );
    }

    /// A dot, with text that shows while the pointer is on it.
    pub fn dot(&mut self, x: f64, y: f64, colour: &str, title: &str) {
        let (x, y) = self.at(x, y);
        let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        let _ = write!(
            self.body,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\" fill=\"var(--{colour})\" fill-opacity=\".7\">{title}</circle>"
        );
    }

    /// A bar between two corners, with text that shows while the pointer is on it.
    pub fn bar(&mut self, x: (f64, f64), y: (f64, f64), colour: &str, title: &str) {
        let ((left, bottom), (right, top)) = (self.at(x.0, y.0), self.at(x.1, y.1));
        let _ = write!(
            self.body,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"var(--{colour})\"><title>{}</title></rect>",
            right - left,
            bottom - top,
            escape(title)
        );
    }

    /// The drawing.
    pub fn svg(self) -> String {
        let (width, height) = self.size;
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
             style=\"max-width:100%;height:auto\">{}</svg>\n",
            self.body
        )
    }
}

/// Two to six round numbers within a range.
pub fn ticks((lo, hi): (f64, f64)) -> Vec<f64> {
    let span = (hi - lo).max(f64::MIN_POSITIVE);
    let unit = 10f64.powf((span / 4.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|f| f * unit).into_iter().find(|s| span / s <= 6.0).unwrap_or(span);
    let first = (lo / step).ceil() as i64;
    (first..first + 8).map(|i| i as f64 * step).take_while(|v| *v <= hi + 1e-9 * span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_become_markup() {
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
        let page = document("<x>", "", &table(&["a"], [vec![escape("<b>")]], 1), "");
        assert!(page.contains("<title>&lt;x&gt;</title>") && page.contains("<td>&lt;b&gt;</td>"), "{page}");
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks((0.0, 10.0)), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        for range in [(-3.7, 9.1), (1e-9, 2e-9), (0.0, 1e6), (-1.0, 1.0)] {
            let count = ticks(range).len();
            assert!((2..=7).contains(&count), "{range:?}: {count}");
        }
    }
}
