//! The terminal of `sillok dev`: lines above, one status line below, and keys. Where there is no terminal only lines.

use std::io::{IsTerminal as _, Write as _};

use crossterm::{
    event::{Event, EventStream, KeyCode, KeyEventKind, KeyModifiers},
    terminal,
};
use futures::StreamExt as _;

use crate::table::clip;

/// What was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// From 0.
    Site(usize),
    Writes,
    Quit,
}

/// The terminal, as it was again when dropped.
pub(super) struct Screen {
    keys: Option<EventStream>,
    status: String,
}

const HELP: &str = "keys: 1 2 3 kill a site (kill -9) or start it again · w writes going on · q or Ctrl-C stops";
const HELP_WITHOUT_KEYS: &str = "Ctrl-C or SIGTERM stops";

impl Screen {
    pub(super) fn start() -> Screen {
        let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let keys = (terminal && terminal::enable_raw_mode().is_ok()).then(EventStream::new);
        Screen { keys, status: String::new() }
    }

    pub(super) fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    pub(super) fn help(&self) -> &'static str {
        if self.has_keys() { HELP } else { HELP_WITHOUT_KEYS }
    }

    /// One line for good.
    pub(super) fn line(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A terminal that is gone is told of by a signal.
        let _ = match self.keys {
            Some(_) => write!(out, "\r\x1b[2K{text}\r\n{}", self.status),
            None => writeln!(out, "{text}"),
        };
        let _ = out.flush();
    }

    /// The line that changes.
    pub(super) fn status(&mut self, text: &str) {
        if self.keys.is_none() {
            return;
        }
        let width = terminal::size().map_or(100, |(columns, _)| usize::from(columns));
        let text = clip(text, width.saturating_sub(1));
        if text == self.status {
            return;
        }
        let mut out = std::io::stdout().lock();
        let _ = write!(out, "\r\x1b[2K{text}");
        let _ = out.flush();
        self.status = text;
    }

    /// The next key that means something; never where there are none.
    pub(super) async fn key(&mut self) -> Key {
        let Some(keys) = &mut self.keys else { return std::future::pending().await };
        loop {
            let pressed = match keys.next().await {
                Some(Ok(Event::Key(key))) if key.kind == KeyEventKind::Press => key,
                Some(Ok(_)) => continue,
                // The terminal is gone.
                Some(Err(_)) | None => return Key::Quit,
            };
            match meaning(pressed.code, pressed.modifiers) {
                Some(key) => return key,
                None => continue,
            }
        }
    }
}

fn meaning(code: KeyCode, modifiers: KeyModifiers) -> Option<Key> {
    match code {
        KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
        KeyCode::Char(digit @ '1'..='9') => Some(Key::Site(digit as usize - '1' as usize)),
        // With a Korean keyboard layout q is ㅂ and w is ㅈ.
        KeyCode::Char('q' | 'Q' | 'ㅂ' | 'ㅃ') => Some(Key::Quit),
        KeyCode::Char('w' | 'W' | 'ㅈ' | 'ㅉ') => Some(Key::Writes),
        _ => None,
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.keys.is_some() {
            let _ = write!(std::io::stdout(), "\r\x1b[2K");
            let _ = terminal::disable_raw_mode();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_the_same_on_a_korean_layout() {
        for (key, means) in [('1', Key::Site(0)), ('3', Key::Site(2)), ('ㅂ', Key::Quit), ('ㅈ', Key::Writes)] {
            assert_eq!(meaning(KeyCode::Char(key), KeyModifiers::NONE), Some(means));
        }
        assert_eq!(meaning(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Key::Quit));
        assert_eq!(meaning(KeyCode::Char('c'), KeyModifiers::NONE), None);
    }
}
