//! Tables by display width, so that Hangul lines up.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table of these columns. A heading that begins with `>` stands over numbers and is aligned right.
pub(crate) struct Rows {
    table: Table,
    rows: usize,
}

impl Rows {
    /// No rows yet.
    pub(crate) fn new(columns: &[&str]) -> Rows {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(columns.iter().map(|name| name.trim_start_matches('>').to_uppercase()));
        for (index, name) in columns.iter().enumerate() {
            if let Some(column) = table.column_mut(index) {
                column.set_padding((0, 2));
                if name.starts_with('>') {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        Rows { table, rows: 0 }
    }

    /// One more row.
    pub(crate) fn push<const N: usize>(&mut self, cells: [String; N]) {
        self.rows += 1;
        self.table.add_row(cells.map(|cell| one_line(&cell)));
    }

    /// As it is printed: one line a row, nothing at the ends of lines.
    pub(crate) fn render(&self) -> String {
        if self.rows == 0 {
            return "(none)".to_owned();
        }
        self.table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }
}

/// Names and values below each other, for one thing.
pub(crate) struct Card {
    table: Table,
}

impl Card {
    /// Empty.
    pub(crate) fn new() -> Card {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        Card { table }
    }

    /// One more line.
    pub(crate) fn push(&mut self, name: &str, value: impl Into<String>) -> &mut Card {
        self.table.add_row([name.to_owned(), one_line(&value.into())]);
        self
    }

    /// As it is printed.
    pub(crate) fn render(&mut self) -> String {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        self.table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }
}

/// A text in one cell: line breaks become spaces, and control characters do nothing to a terminal.
fn one_line(text: &str) -> String {
    if !text.chars().any(char::is_control) {
        return text.to_owned();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Shortened to so many columns on a screen, a Hangul syllable taking two.
pub(crate) fn clip(text: &str, width: usize) -> String {
    use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};
    let text = one_line(text);
    if text.width() <= width {
        return text;
    }
    let mut used = 0;
    let mut out = String::new();
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used + 1 > width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn hangul_lines_up() {
        let mut rows = Rows::new(&["name", "region", ">friends"]);
        rows.push(["봄 꽃집".into(), "서울".into(), "1,604".into()]);
        rows.push(["Bakery".into(), "Busan".into(), "7".into()]);
        let text = rows.render();
        let ends: Vec<usize> = text.lines().map(UnicodeWidthStr::width).collect();
        assert_eq!(text.lines().count(), 3);
        assert!(ends.iter().all(|end| *end == ends[0]), "numbers end at one column:\n{text}");
        let column = |line: &str, word: &str| line[..line.find(word).unwrap()].width();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(column(lines[1], "서울"), column(lines[2], "Busan"), "{text}");
    }

    #[test]
    fn a_text_stays_in_its_line_and_cannot_move_the_cursor() {
        let mut rows = Rows::new(&["text"]);
        rows.push(["one\ntwo\u{1b}[2J".into()]);
        assert_eq!(rows.render(), "TEXT\none two [2J");
    }

    #[test]
    fn clipping_counts_columns_not_characters() {
        assert_eq!(clip("안녕하세요", 10), "안녕하세요");
        assert_eq!(clip("안녕하세요", 9), "안녕하세…");
        assert_eq!(clip("abc", 2), "a…");
    }
}
