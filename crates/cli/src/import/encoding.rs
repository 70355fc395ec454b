//! Texts as shops have them: UTF-8 with or without a byte order mark, UTF-16 as spreadsheets save it, and CP949.

use std::io::{self, Read};

use clap::ValueEnum;
use encoding_rs::{DecoderResult, EUC_KR, UTF_8, UTF_16BE, UTF_16LE};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Encoding {
    /// UTF-8 where all of it is, else CP949
    Auto,
    /// With or without a byte order mark
    Utf8,
    /// Windows code page 949, which contains EUC-KR
    Cp949,
}

/// What reading a file through once has shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    pub(super) encoding: &'static encoding_rs::Encoding,
    /// Lines that are not empty, the last one with or without a line break.
    pub(super) lines: u64,
    /// All of it is text of that encoding.
    pub(super) is_text: bool,
}

impl Scan {
    /// For a person.
    pub(super) fn name(&self) -> &'static str {
        if self.encoding == EUC_KR { "CP949" } else { self.encoding.name() }
    }
}

const CHUNK: usize = 64 << 10;

/// Reads everything once to learn how it is written and how long it is.
pub(super) fn scan(mut from: impl Read, asked: Encoding) -> io::Result<Scan> {
    let mut chunk = vec![0; CHUNK];
    let mut text = String::with_capacity(CHUNK * 3);
    let mut utf8 = UTF_8.new_decoder_without_bom_handling();
    let (mut is_utf8, mut bom, mut first) = (true, None, true);
    let (mut lines, mut in_line) = (0, false);
    loop {
        let length = fill(&mut from, &mut chunk)?;
        let bytes = &chunk[..length];
        if first {
            bom = encoding_rs::Encoding::for_bom(bytes).map(|(encoding, _)| encoding);
            first = false;
        }
        for byte in bytes {
            match byte {
                b'\n' => {
                    lines += u64::from(in_line);
                    in_line = false;
                }
                b'\r' => {}
                _ => in_line = true,
            }
        }
        let mut rest = bytes;
        while is_utf8 {
            text.clear();
            let (result, read) = utf8.decode_to_string_without_replacement(rest, &mut text, length == 0);
            rest = &rest[read..];
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => is_utf8 = false,
            }
        }
        if length == 0 {
            break;
        }
    }
    let encoding = match (bom, asked) {
        (Some(utf16), Encoding::Auto) if utf16 == UTF_16LE || utf16 == UTF_16BE => utf16,
        (_, Encoding::Utf8) => UTF_8,
        (_, Encoding::Cp949) => EUC_KR,
        (_, Encoding::Auto) if is_utf8 => UTF_8,
        (_, Encoding::Auto) => EUC_KR,
    };
    Ok(Scan { encoding, lines: lines + u64::from(in_line), is_text: encoding == UTF_8 && is_utf8 })
}

/// As much as fits, less only at the end.
fn fill(from: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < chunk.len() {
        match from.read(&mut chunk[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The same text as UTF-8, without a byte order mark. Bytes that are no text of the encoding are an error that names where.
pub(super) struct Decoded<R> {
    from: R,
    decoder: encoding_rs::Decoder,
    name: &'static str,
    chunk: Box<[u8]>,
    /// Of `chunk`, what is not decoded yet.
    undecoded: std::ops::Range<usize>,
    text: Vec<u8>,
    given: usize,
    ended: bool,
    /// Lines decoded so far, for errors.
    line: u64,
}

impl<R: Read> Decoded<R> {
    pub(super) fn new(from: R, scan: Scan) -> Decoded<R> {
        Decoded {
            from,
            decoder: scan.encoding.new_decoder_with_bom_removal(),
            name: scan.name(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            undecoded: 0..0,
            text: Vec::new(),
            given: 0,
            ended: false,
            line: 1,
        }
    }

    fn more(&mut self) -> io::Result<()> {
        if self.undecoded.is_empty() {
            let length = fill(&mut self.from, &mut self.chunk)?;
            self.undecoded = 0..length;
            self.ended = length == 0;
        }
        let mut text = String::with_capacity(CHUNK * 3 + 16);
        let bytes = &self.chunk[self.undecoded.clone()];
        let (result, read) = self.decoder.decode_to_string_without_replacement(bytes, &mut text, self.ended);
        self.undecoded.start += read;
        self.line += text.bytes().filter(|byte| *byte == b'\n').count() as u64;
        if let DecoderResult::Malformed(..) = result {
            let message = format!("line {}: bytes that are no {} text; --encoding names another", self.line, self.name);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        self.text = text.into_bytes();
        self.given = 0;
        Ok(())
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.text.len() && !(self.ended && self.undecoded.is_empty()) {
            self.more()?;
        }
        let rest = &self.text[self.given..];
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        self.given += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_cp949(text: &str) -> Option<Vec<u8>> {
        let (bytes, _, replaced) = EUC_KR.encode(text);
        (!replaced).then(|| bytes.into_owned())
    }

    const TEXT: &str = "user_key,지역,이름\nu-1,서울,똠방각하 펲시콜라\nu-2,부산,김철수\n";

    fn read_all(bytes: &[u8], asked: Encoding) -> (Scan, io::Result<String>) {
        let scan = scan(bytes, asked).unwrap();
        let mut text = String::new();
        let result = Decoded::new(bytes, scan).read_to_string(&mut text);
        (scan, result.map(|_| text))
    }

    #[test]
    fn utf8_with_and_without_a_byte_order_mark_is_the_same_text() {
        let marked = [b"\xef\xbb\xbf", TEXT.as_bytes()].concat();
        for bytes in [TEXT.as_bytes(), &marked] {
            let (scan, text) = read_all(bytes, Encoding::Auto);
            assert_eq!((scan.name(), scan.lines, text.unwrap().as_str()), ("UTF-8", 3, TEXT));
        }
    }

    #[test]
    fn cp949_is_recognised_also_beyond_euc_kr() {
        let bytes = to_cp949(TEXT).unwrap();
        assert!(std::str::from_utf8(&bytes).is_err());
        let (scan, text) = read_all(&bytes, Encoding::Auto);
        assert_eq!((scan.name(), text.unwrap().as_str()), ("CP949", TEXT));
    }

    #[test]
    fn utf16_of_a_spreadsheet_is_recognised() {
        let mut bytes = vec![0xff, 0xfe];
        bytes.extend(TEXT.encode_utf16().flat_map(u16::to_le_bytes));
        let (scan, text) = read_all(&bytes, Encoding::Auto);
        assert_eq!((scan.name(), text.unwrap().as_str()), ("UTF-16LE", TEXT));
    }

    #[test]
    fn a_syllable_may_lie_across_two_chunks() {
        let long: String = "가".repeat(CHUNK) + "나";
        for bytes in [long.clone().into_bytes(), [b"x".as_slice(), &to_cp949(&long).unwrap()].concat()] {
            let (_, text) = read_all(&bytes, Encoding::Auto);
            assert_eq!(text.unwrap().trim_start_matches('x'), long);
        }
    }

    #[test]
    fn bytes_of_no_encoding_are_named_with_their_line() {
        let (_, text) = read_all(b"user_key\nu-1\n\xff\xff\xff\n", Encoding::Auto);
        let error = text.unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("CP949"), "{error}");
        let (_, text) = read_all(&to_cp949(TEXT).unwrap(), Encoding::Utf8);
        assert!(text.unwrap_err().to_string().contains("line 1: bytes that are no UTF-8"));
    }

    #[test]
    fn empty_lines_do_not_count() {
        for (text, lines) in [("", 0), ("a", 1), ("a\n\n\r\nb\r\n", 2)] {
            assert_eq!(scan(text.as_bytes(), Encoding::Auto).unwrap().lines, lines, "{text:?}");
        }
    }
}
