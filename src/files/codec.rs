//! Compressed files.

use crate::error::file::FileProblem;
use crate::units::Compression;
#[cfg(feature = "compression")]
use flate2::bufread::GzDecoder;
#[cfg(feature = "compression")]
use std::io::BufRead;
use std::io::{self, Read, Write};

impl Compression {
    /// What the end of a name says: `.gz`, `.zst` or `.zstd`, `.bz2`, `.xz`; anything else is not compressed.
    ///
    /// ```
    /// # use swath::files::Compression;
    /// assert_eq!(Compression::of_name("logs/2024.json.GZ"), Compression::Gzip);
    /// assert_eq!(Compression::of_name("gz"), Compression::None);
    /// ```
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name);
        match file.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).as_deref() {
            Some("gz") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            Some("bz2") => Self::Bzip2,
            Some("xz") => Self::Xz,
            _ => Self::None,
        }
    }

    /// Whether this build can read and write it.
    pub(crate) fn check(self) -> Result<(), FileProblem> {
        match self {
            Self::None => Ok(()),
            _ if cfg!(feature = "compression") => Ok(()),
            _ => Err(FileProblem::unsupported(format!("{self} needs swath's feature `compression`"))),
        }
    }

    /// The contents of compressed data.
    pub(super) fn decoder(self, data: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
        self.check()?;
        let plain: Box<dyn Read + Send> = match self {
            Self::None => return Ok(data),
            #[cfg(feature = "compression")]
            Self::Gzip => Box::new(GzipMembers { current: Some(GzDecoder::new(buffered(data))) }),
            #[cfg(feature = "compression")]
            Self::Zstd => Box::new(zstd::Decoder::with_buffer(buffered(data))?),
            #[cfg(feature = "compression")]
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(data))),
            #[cfg(feature = "compression")]
            Self::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(buffered(data))),
            #[cfg(not(feature = "compression"))]
            _ => data,
        };
        Ok(Box::new(NamedDecoder { plain, compression: self }))
    }

    /// Compresses what is written to it into `to`.
    pub(super) fn encoder<W: Write>(self, to: W) -> io::Result<Encoder<W>> {
        self.check()?;
        Ok(match self {
            #[cfg(feature = "compression")]
            Self::Gzip => Encoder::Gzip(flate2::write::GzEncoder::new(to, flate2::Compression::default())),
            #[cfg(feature = "compression")]
            Self::Zstd => Encoder::Zstd(zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?),
            #[cfg(feature = "compression")]
            Self::Bzip2 => Encoder::Bzip2(bzip2::write::BzEncoder::new(to, bzip2::Compression::default())),
            #[cfg(feature = "compression")]
            Self::Xz => Encoder::Xz(liblzma::write::XzEncoder::new(to, 6)),
            _ => Encoder::Plain(to),
        })
    }
}

#[cfg(feature = "compression")]
type Buffered = io::BufReader<Box<dyn Read + Send>>;

#[cfg(feature = "compression")]
fn buffered(data: Box<dyn Read + Send>) -> Buffered {
    io::BufReader::with_capacity(64 << 10, data)
}

/// The members of a gzip file, one after the other. Zeroes behind one are no data, but what fills a block of a tape or of
/// a device.
#[cfg(feature = "compression")]
struct GzipMembers {
    /// `None` behind the last one.
    current: Option<GzDecoder<Buffered>>,
}

#[cfg(feature = "compression")]
impl Read for GzipMembers {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.current {
            let got = member.read(buf)?;
            if got > 0 || buf.is_empty() {
                return Ok(got);
            }
            skip_zeroes(member.get_mut())?;
            let is_last = member.get_mut().fill_buf()?.is_empty();
            self.current = self.current.take().filter(|_| !is_last).map(|member| GzDecoder::new(member.into_inner()));
        }
        Ok(0)
    }
}

#[cfg(feature = "compression")]
fn skip_zeroes(data: &mut Buffered) -> io::Result<()> {
    loop {
        let bytes = data.fill_buf()?;
        let zeroes = bytes.iter().take_while(|byte| **byte == 0).count();
        let is_all = zeroes == bytes.len() && zeroes > 0;
        data.consume(zeroes);
        if !is_all {
            return Ok(());
        }
    }
}

/// A decoder whose complaints name the compression.
struct NamedDecoder {
    plain: Box<dyn Read + Send>,
    compression: Compression,
}

impl Read for NamedDecoder {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.plain.read(buf).map_err(|e| {
            // The reader below has a problem of its own, or the system has; the rest are complaints about the data.
            let below = e.get_ref().is_some_and(|e| e.is::<FileProblem>()) || e.raw_os_error().is_some();
            if below || e.kind() == io::ErrorKind::Interrupted {
                return e;
            }
            FileProblem::Corrupt { compression: self.compression, reason: e.to_string() }.into()
        })
    }
}

/// Compresses into a writer. What is written last comes with [`finish`](Self::finish).
pub(super) enum Encoder<W: Write> {
    Plain(W),
    #[cfg(feature = "compression")]
    Gzip(flate2::write::GzEncoder<W>),
    #[cfg(feature = "compression")]
    Zstd(zstd::Encoder<'static, W>),
    #[cfg(feature = "compression")]
    Bzip2(bzip2::write::BzEncoder<W>),
    #[cfg(feature = "compression")]
    Xz(liblzma::write::XzEncoder<W>),
}

impl<W: Write> Encoder<W> {
    fn writer(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(w) => w,
            #[cfg(feature = "compression")]
            Self::Gzip(w) => w,
            #[cfg(feature = "compression")]
            Self::Zstd(w) => w,
            #[cfg(feature = "compression")]
            Self::Bzip2(w) => w,
            #[cfg(feature = "compression")]
            Self::Xz(w) => w,
        }
    }

    pub(super) fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(w) => Ok(w),
            #[cfg(feature = "compression")]
            Self::Gzip(w) => w.finish(),
            #[cfg(feature = "compression")]
            Self::Zstd(w) => w.finish(),
            #[cfg(feature = "compression")]
            Self::Bzip2(w) => w.finish(),
            #[cfg(feature = "compression")]
            Self::Xz(w) => w.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.writer().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer().flush()
    }
}

#[cfg(all(test, feature = "compression"))]
mod tests {
    use super::*;

    const ALL: [Compression; 4] = [Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Xz];

    fn packed(compression: Compression, text: &[u8]) -> Vec<u8> {
        let mut encoder = compression.encoder(Vec::new()).expect("encodes");
        encoder.write_all(text).expect("writes");
        encoder.finish().expect("finishes")
    }

    fn unpacked(compression: Compression, data: Vec<u8>) -> Result<Vec<u8>, FileProblem> {
        let mut text = Vec::new();
        let mut decoder = compression.decoder(Box::new(io::Cursor::new(data)))?;
        decoder.read_to_end(&mut text)?;
        Ok(text)
    }

    #[test]
    fn each_gives_back_what_it_got_also_in_several_members() {
        for compression in ALL {
            let mut data = packed(compression, b"one\n");
            data.extend(packed(compression, b""));
            data.extend(packed(compression, b"two\n"));
            assert_eq!(unpacked(compression, data).as_deref(), Ok(&b"one\ntwo\n"[..]), "{compression}");
        }
    }

    #[test]
    fn zeroes_behind_gzip_members_are_left_out_and_nothing_else_is() {
        let member = packed(Compression::Gzip, b"one\n");
        for zeroes in [1, 7, 512, 200_000] {
            let mut data = member.clone();
            data.resize(data.len() + zeroes, 0);
            assert_eq!(unpacked(Compression::Gzip, data.clone()).as_deref(), Ok(&b"one\n"[..]), "{zeroes}");
            data.extend(packed(Compression::Gzip, b"two\n"));
            assert_eq!(unpacked(Compression::Gzip, data.clone()).as_deref(), Ok(&b"one\ntwo\n"[..]), "{zeroes}");
            data.extend_from_slice(b"\0\0more");
            assert!(matches!(unpacked(Compression::Gzip, data), Err(FileProblem::Corrupt { .. })), "{zeroes}");
        }
        assert!(unpacked(Compression::Gzip, vec![0; 512]).is_err(), "no member at all");
    }

    #[test]
    fn half_a_file_and_rubbish_are_told() {
        let text: Vec<u8> = (0..20_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        for compression in ALL {
            let whole = packed(compression, &text);
            for cut in [0, 1, 5, whole.len() / 2, whole.len() - 1] {
                let problem = unpacked(compression, whole[..cut].to_vec()).expect_err("a part is not the whole");
                assert!(
                    matches!(problem, FileProblem::Corrupt { compression: c, .. } if c == compression),
                    "{compression}, {cut} bytes: {problem}"
                );
            }
            assert!(unpacked(compression, b"rubbish that is long enough for a header\n".to_vec()).is_err());
        }
    }
}
