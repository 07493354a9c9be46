//! Which lines a plot shows at first, and their colours.

use campana_eval::CompareRow;
use campana_quantize::MethodChoice;

use crate::page::escape;

/// Methods up to which all are shown.
const MAX_SHOWN: usize = 5;

/// Colours that the style has, told apart and legible on light and dark cards.
const COLOURS: usize = 8;

/// The methods of a comparison: first those that are shown.
pub(super) struct Series<'a> {
    methods: Vec<&'a str>,
    shown: usize,
}

impl<'a> Series<'a> {
    /// The methods of rows, of which `front` says whether they are on the
    /// Pareto front. Shown are those on it and the automatic ones; where that
    /// is nothing, or there are few, the first.
    pub(super) fn of(rows: &'a [CompareRow], front: &[bool]) -> Self {
        let auto = MethodChoice::Auto.to_string();
        let is_auto = |method: &str| method.split('+').next() == Some(auto.as_str());
        let (mut methods, mut rest): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
        for (row, on_front) in rows.iter().zip(front) {
            let method = row.method.as_str();
            if (*on_front || is_auto(method)) && !methods.contains(&method) {
                methods.push(method);
            }
        }
        for row in rows {
            let method = row.method.as_str();
            if !methods.contains(&method) && !rest.contains(&method) {
                rest.push(method);
            }
        }
        let all = methods.len() + rest.len();
        let shown = match methods.len() {
            _ if all <= MAX_SHOWN => all,
            0 => MAX_SHOWN,
            shown => shown,
        };
        methods.append(&mut rest);
        Self { methods, shown }
    }

    /// The methods with the class of what is drawn of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, String)> {
        self.methods.iter().enumerate().map(|(index, method)| {
            let off = if index < self.shown { "" } else { " off" };
            (*method, format!("s{index}{off}"))
        })
    }

    /// The class of what is drawn of a method, and its colour.
    pub(super) fn look(&self, method: &str) -> Option<(String, String)> {
        let index = self.methods.iter().position(|known| *known == method)?;
        let (_, class) = self.iter().nth(index)?;
        Some((class, format!("var(--c{})", index % COLOURS)))
    }

    /// Whether lines of a method are shown at first.
    pub(super) fn is_shown(&self, method: &str) -> bool {
        self.methods[..self.shown].contains(&method)
    }

    /// Boxes to be ticked, one a method.
    pub(super) fn choice(&self) -> String {
        let boxes: String = self
            .methods
            .iter()
            .enumerate()
            .map(|(index, method)| {
                let checked = if index < self.shown { " checked=\"\"" } else { "" };
                format!(
                    "<label><input type=\"checkbox\" data-series=\"s{index}\"{checked} /><span><i class=\"key dot\" \
                     style=\"background:var(--c{})\"></i> {}</span></label>",
                    index % COLOURS,
                    escape(method)
                )
            })
            .collect();
        format!("<fieldset class=\"series\"><legend>Shown:</legend>{boxes}</fieldset>\n")
    }
}
