//! `rejected.csv`: rows that were not taken, as they stood, with where and why.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
};

use super::rows::Raw;
use crate::failure::Failure;

/// Written beside and renamed at the end, so that `import rejected.csv` can read the file it replaces. A file of that name
/// from the import of something else is kept under another one: somebody may be mending it.
pub(super) struct Rejected {
    path: PathBuf,
    /// The file is the one that is imported.
    mended: bool,
    columns: Vec<String>,
    out: Option<csv::Writer<File>>,
    pub(super) count: u64,
}

/// What lies there at the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The rows that this import rejected.
    pub(super) written: Option<PathBuf>,
    /// For a person: what is the matter with a file that was there before.
    pub(super) earlier: Option<String>,
}

/// Why a row was not taken.
#[derive(Debug, Clone)]
pub(super) struct Why {
    /// The name of a reason, or `INVALID_ROW`.
    pub(super) reason: String,
    /// For a person.
    pub(super) message: String,
}

const OUR_COLUMNS: [&str; 3] = ["rejected_line", "rejected_reason", "rejected_message"];

impl Rejected {
    /// No file is made before a row is rejected. `columns`: the header of `imported`.
    pub(super) fn new(path: &Path, imported: &Path, columns: Vec<String>) -> Rejected {
        let mended =
            path.canonicalize().is_ok_and(|path| imported.canonicalize().is_ok_and(|imported| path == imported));
        Rejected { path: path.to_owned(), mended, columns, out: None, count: 0 }
    }

    fn part(&self) -> PathBuf {
        self.path.with_extension("csv.part")
    }

    /// One more.
    pub(super) fn add(&mut self, line: u64, raw: &Raw, why: &Why) -> Result<(), Failure> {
        self.count += 1;
        let failed =
            |path: &Path, error: csv::Error| Failure::usage(format!("cannot write {}: {error}", path.display()));
        let path = self.part();
        let kept: Vec<usize> =
            (0..self.columns.len()).filter(|index| !OUR_COLUMNS.contains(&self.columns[*index].as_str())).collect();
        let out = match &mut self.out {
            Some(out) => out,
            none => {
                let mut file = File::create(&path).map_err(|error| Failure::file(&path, "write", &error))?;
                // So that a spreadsheet reads Hangul as what it is.
                file.write_all("\u{feff}".as_bytes()).map_err(|error| Failure::file(&path, "write", &error))?;
                // A row may have more cells than the header; they come last.
                let mut out = csv::WriterBuilder::new().flexible(true).from_writer(file);
                let header = kept.iter().map(|index| self.columns[*index].as_str()).chain(OUR_COLUMNS);
                out.write_record(header).map_err(|error| failed(&path, error))?;
                none.insert(out)
            }
        };
        let line = line.to_string();
        let ours = [line.as_str(), &why.reason, &why.message];
        let written = match raw {
            Raw::Csv(row) => {
                let cells = kept.iter().map(|index| row.get(*index).unwrap_or_default());
                out.write_record(cells.chain(ours).chain(row.iter().skip(self.columns.len())))
            }
            Raw::Json(text) => out.write_record([text.as_str()].into_iter().chain(ours)),
        };
        written.map_err(|error| failed(&path, error))
    }

    /// Where the rejected rows are, if there are any.
    pub(super) fn finish(mut self) -> Result<Left, Failure> {
        let Some(mut out) = self.out.take() else { return Ok(self.nothing()) };
        let part = self.part();
        out.flush().map_err(|error| Failure::file(&part, "write", &error))?;
        drop(out);
        let earlier = self.put_aside(&part)?;
        std::fs::rename(&part, &self.path).map_err(|error| Failure::file(&self.path, "write", &error))?;
        Ok(Left { written: Some(self.path), earlier })
    }

    /// Nothing was rejected, and a file that says otherwise may stand there.
    fn nothing(&self) -> Left {
        let path = self.path.display();
        let earlier = match (self.path.exists(), self.mended) {
            (false, _) => None,
            (true, true) => Some(format!("every row of {path} is in the channel now: it is no longer needed")),
            (true, false) => Some(format!("{path} is of an earlier import")),
        };
        Left { written: None, earlier }
    }

    /// A file that is neither replaced by its own mended rows nor the same again gets the first free name.
    fn put_aside(&self, part: &Path) -> Result<Option<String>, Failure> {
        let Ok(before) = std::fs::read(&self.path) else { return Ok(None) };
        let now = std::fs::read(part).map_err(|error| Failure::file(part, "read", &error))?;
        if self.mended || before == now {
            return Ok(None);
        }
        let mut number = 1_u32;
        let aside = loop {
            let name = self.path.with_extension(format!("{number}.csv"));
            if !name.exists() {
                break name;
            }
            number += 1;
        };
        std::fs::rename(&self.path, &aside).map_err(|error| Failure::file(&self.path, "put aside", &error))?;
        Ok(Some(format!("those of an earlier import are kept in {}", aside.display())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_rows_can_be_mended_and_imported_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejected.csv");
        let why = Why { reason: "ALREADY_REJECTED".into(), message: "왜냐하면".into() };

        let mut rejected = Rejected::new(&path, Path::new("list.csv"), vec!["user_key".into(), "지역".into()]);
        rejected.add(3, &Raw::Csv(vec!["u-1", "서울, 종로"].into()), &why).unwrap();
        assert_eq!(rejected.finish().unwrap(), Left { written: Some(path.clone()), earlier: None });
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "\u{feff}user_key,지역,rejected_line,rejected_reason,rejected_message\nu-1,\"서울, 종로\",3,ALREADY_REJECTED,왜냐하면\n"
        );

        // The file of the second import has those columns already; they are replaced, not repeated.
        let columns =
            text.trim_start_matches('\u{feff}').lines().next().unwrap().split(',').map(str::to_owned).collect();
        let mut again = Rejected::new(&path, &path, columns);
        again.add(2, &Raw::Csv(vec!["u-1", "서울", "3", "OLD", "old"].into()), &why).unwrap();
        again.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().nth(1), Some("u-1,서울,2,ALREADY_REJECTED,왜냐하면"));
    }

    #[test]
    fn a_row_with_a_cell_too_many_loses_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejected.csv");
        let mut rejected = Rejected::new(&path, Path::new("list.csv"), vec!["user_key".into(), "지역".into()]);
        let why = Why { reason: "INVALID_ROW".into(), message: "3 cells".into() };
        rejected.add(3, &Raw::Csv(vec!["u-1", "서울", "종로"].into()), &why).unwrap();
        rejected.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().nth(1), Some("u-1,서울,3,INVALID_ROW,3 cells,종로"));
    }

    /// A shop imported two lists in a row, and the second one's rejected rows took the place of the first one's, half mended.
    #[test]
    fn the_rejected_rows_of_another_file_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejected.csv");
        let one = |user: &str| {
            let mut rejected = Rejected::new(&path, Path::new("list.csv"), vec!["user_key".into()]);
            let why = Why { reason: "INVALID_ROW".into(), message: String::new() };
            rejected.add(2, &Raw::Csv(vec![user].into()), &why).unwrap();
            rejected.finish().unwrap()
        };
        assert_eq!(one("first").earlier, None);
        assert_eq!(one("first").earlier, None, "the same again");
        assert!(one("second").earlier.unwrap().ends_with("rejected.1.csv"));
        assert!(std::fs::read_to_string(dir.path().join("rejected.1.csv")).unwrap().contains("first"));
        assert!(std::fs::read_to_string(&path).unwrap().contains("second"));
        // And a clean import does not look as if it had rejected them.
        let left = Rejected::new(&path, Path::new("list.csv"), vec![]).finish().unwrap();
        assert_eq!((left.written, left.earlier.unwrap().ends_with("is of an earlier import")), (None, true));
    }

    #[test]
    fn without_a_rejected_row_there_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rejected.csv");
        assert_eq!(Rejected::new(&path, Path::new("list.csv"), vec![]).finish().unwrap(), Left::default());
        assert!(!path.exists());
    }
}
