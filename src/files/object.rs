//! Files in object stores and on web servers.
//!
//! The client library is asynchronous, and tasks are not. A process that needs it has one thread with an event loop, and
//! whoever reads or writes waits for it: so the connections, and what was negotiated for them, are shared by all tasks of
//! the process, and it works the same from plain threads and from within somebody's async runtime, where one could not
//! block on another. Requests take milliseconds, so a hop from one thread to the other does not count.

use super::location::{Listed, ListedSize, Location, Sink, StoreOptions};
use super::multipart::{MultipartUpload, UploadStep};
use super::pattern::{Pattern, is_pattern};
use crate::error::file::{FileError, FileProblem};
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::error::Error as StdError;
use std::io::{self, Cursor, Read, Write};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use url::Url;

/// Downloads come in pieces of so many bytes.
const PIECE: u64 = 8 << 20;
/// Streams hand over so many bytes at once, and are so many chunks ahead of their reader.
const CHUNK: usize = 256 << 10;
const AHEAD: usize = 4;
/// Uploads of more than this go in parts of this size. S3 allows ten thousand parts of at least 5 MiB.
const PART: usize = 16 << 20;
/// What is read at once behind the range that was wanted.
const BEHIND: u64 = 1 << 20;
/// No request takes longer, with its repetitions, nor does the next part of a stream.
const LIMIT: Duration = Duration::from_secs(300);
/// How often a waiting task checks whether it has been cancelled.
const POLL: Duration = Duration::from_millis(100);

/// The event loop of this process.
pub(super) fn event_loop() -> io::Result<Handle> {
    static LOOP: Mutex<Option<Handle>> = Mutex::new(None);
    let mut running = LOOP.lock();
    if let Some(handle) = &*running {
        return Ok(handle.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let forever = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("object-store".to_string()).spawn(forever)?;
    Ok(running.insert(handle).clone())
}

/// Runs a future in the event loop and waits for it. If the calling task is cancelled, so is the future.
pub(super) fn wait<F>(future: F) -> io::Result<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (send, receive) = sync_channel(1);
    let task = event_loop()?.spawn(async move {
        // Nobody listens any more if the waiter was cancelled.
        let _ = send.send(future.await);
    });
    loop {
        match receive.recv_timeout(POLL) {
            Ok(output) => return Ok(output),
            Err(RecvTimeoutError::Timeout) if crate::cancelled() => {
                task.abort();
                return Err(FileProblem::Cancelled.into());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the request was given up")),
        }
    }
}

/// Waits for something that runs in the event loop already. If the calling task is cancelled, so is that.
fn join<T: Send + 'static>(running: JoinHandle<T>) -> io::Result<T> {
    let abort = running.abort_handle();
    wait(running).inspect_err(|_| abort.abort())?.map_err(io::Error::other)
}

/// Ends what takes too long.
async fn limited<T>(request: impl Future<Output = Result<T, FileProblem>>) -> Result<T, FileProblem> {
    let late = |_| FileProblem::Io { reason: format!("no answer within {} s", LIMIT.as_secs()) };
    tokio::time::timeout(LIMIT, request).await.map_err(late)?
}

/// An object, and what gives access to it.
#[derive(Clone)]
struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl Object {
    fn of(url: &str, options: &StoreOptions) -> io::Result<Self> {
        let place = StorePlace::of(url)?;
        Ok(Self { path: place.path()?, store: place.connect(options)? })
    }
}

/// Which store, and what in it.
struct StorePlace {
    /// Scheme and bucket, container or host.
    base: String,
    key: String,
}

impl StorePlace {
    fn of(url: &str) -> io::Result<Self> {
        let unsupported = |reason: String| io::Error::from(FileProblem::unsupported(reason));
        if is_web(url) {
            let parsed = Url::parse(url).map_err(|e| unsupported(format!("the URL is wrong: {e}")))?;
            let base = parsed[..url::Position::BeforePath].to_string();
            // A store of one object where there is more to the URL than host and path, or the path is written so that it
            // would not come back the same.
            let key = percent_encoding::percent_decode_str(parsed.path().trim_start_matches('/')).decode_utf8_lossy();
            let again = Path::parse(&key).ok().and_then(|path| {
                let mut again = Url::parse(&base).ok()?;
                again.path_segments_mut().ok()?.extend(path.parts());
                Some(again)
            });
            return Ok(match again.as_ref() == Some(&parsed) {
                true => Self { base, key: key.into_owned() },
                false => Self { base: parsed.into(), key: String::new() },
            });
        }
        // Keys are not percent-encoded in these, as in other tools.
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || is_pattern(bucket) {
            return Err(unsupported("the URL has no name of a bucket or container behind its `//`".to_string()));
        }
        Ok(Self { base: format!("{scheme}://{bucket}"), key: key.to_string() })
    }

    fn path(&self) -> io::Result<Path> {
        if !is_web(&self.base) && (self.key.is_empty() || self.key.ends_with('/')) {
            return Err(FileProblem::Directory.into());
        }
        path(&self.key)
    }

    /// The client of the store; the same for all objects in it.
    fn connect(&self, options: &StoreOptions) -> io::Result<Arc<dyn ObjectStore>> {
        type Stores = FxHashMap<(String, StoreOptions), Arc<dyn ObjectStore>>;
        static STORES: Mutex<Option<Stores>> = Mutex::new(None);

        // Those of one object are not kept: there could be any number of them.
        if self.key.is_empty() && is_web(&self.base) {
            return self.build(options);
        }
        let mut stores = STORES.lock();
        let stores = stores.get_or_insert_default();
        let key = (self.base.clone(), options.clone());
        if let Some(store) = stores.get(&key) {
            return Ok(Arc::clone(store));
        }
        let store = self.build(options)?;
        stores.insert(key, Arc::clone(&store));
        Ok(store)
    }

    fn build(&self, options: &StoreOptions) -> io::Result<Arc<dyn ObjectStore>> {
        // As patient as the stores' own clients. The default would try a host that is not there for minutes.
        let retry = RetryConfig { max_retries: 4, ..RetryConfig::default() };
        let is_plain = |endpoint: Option<String>| endpoint.is_some_and(|e| e.starts_with("http://"));
        let base = self.base.as_str();
        let store: Arc<dyn ObjectStore> = match base.split("://").next() {
            Some("s3" | "s3a") => {
                let mut builder = AmazonS3Builder::from_env().with_url(base).with_retry(retry);
                for (key, value) in options {
                    builder = builder.with_config(option(key)?, value);
                }
                let endpoints = [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint];
                if endpoints.iter().any(|key| is_plain(builder.get_config_value(key))) {
                    builder = builder.with_allow_http(true);
                }
                Arc::new(builder.build().map_err(problem)?)
            }
            Some("gs") => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_url(base).with_retry(retry);
                for (key, value) in options {
                    builder = builder.with_config(option(key)?, value);
                }
                Arc::new(builder.build().map_err(problem)?)
            }
            Some("http" | "https") => {
                // A stream goes on as long as it is read: see `limited`.
                let client = ClientOptions::new().with_timeout_disabled().with_allow_http(true);
                let mut builder = HttpBuilder::new().with_url(base).with_retry(retry).with_client_options(client);
                for (key, value) in options {
                    builder = builder.with_config(option(key)?, value);
                }
                Arc::new(builder.build().map_err(problem)?)
            }
            _ => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_url(base).with_retry(retry);
                for (key, value) in options {
                    builder = builder.with_config(option(key)?, value);
                }
                if is_plain(builder.get_config_value(&AzureConfigKey::Endpoint)) {
                    builder = builder.with_allow_http(true);
                }
                Arc::new(builder.build().map_err(problem)?)
            }
        };
        Ok(store)
    }

    fn listed(&self, object: ObjectMeta) -> Listed {
        let url = match self.key.is_empty() {
            true => self.base.clone(),
            false => format!("{}/{}", self.base, object.location),
        };
        let tag = object.e_tag.as_deref().map(plain_tag);
        Listed { location: Location::Remote(url), size: object.size, size_is: ListedSize::Exact, tag }
    }
}

fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn path(key: &str) -> io::Result<Path> {
    Path::parse(key).map_err(|e| FileProblem::unsupported(format!("this name cannot be used: {e}")).into())
}

/// The key of an option.
fn option<K: FromStr>(key: &str) -> io::Result<K> {
    let unknown = |_| FileProblem::unsupported(format!("`{key}` is not an option of this kind of store")).into();
    key.to_ascii_lowercase().parse().map_err(unknown)
}

/// Stores write the same tag now with quotes and now without.
fn plain_tag(tag: &str) -> String {
    tag.trim_start_matches("W/").trim_matches('"').to_string()
}

pub(super) fn problem(error: object_store::Error) -> FileProblem {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => FileProblem::NotFound,
        Error::AlreadyExists { .. } => FileProblem::Exists,
        Error::PermissionDenied { .. } => FileProblem::Denied,
        e => FileProblem::Io { reason: told(&e) },
    }
}

/// An error with its causes: the outer ones often just say that there was one.
fn told(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The object of a URL, or those that match it, in the order of their names.
pub(super) fn list(url: &str, options: &StoreOptions) -> Result<Vec<Listed>, FileError> {
    let failed = |e| FileError::io(url, e);
    let place = StorePlace::of(url).map_err(failed)?;
    let store = place.connect(options).map_err(failed)?;
    // In a web address `?` begins a query, and a web server lists nothing.
    let objects = if is_web(url) || !is_pattern(&place.key) {
        let path = place.path().map_err(failed)?;
        wait(limited(async move { store.head(&path).await.map(|object| vec![object]).map_err(problem) }))
    } else {
        let pattern = Pattern::new(&place.key).map_err(|problem| FileError::of(url, problem))?;
        // Which may be many requests.
        wait(async move { matching(&pattern, &*store).await.map_err(problem) })
    };
    let objects = objects.map_err(failed)?.map_err(|problem| FileError::of(url, problem))?;
    let mut found: Vec<_> = objects.into_iter().map(|object| place.listed(object)).collect();
    found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(found)
}

/// Goes down level by level, so that only what can match is listed.
async fn matching(pattern: &Pattern, store: &dyn ObjectStore) -> object_store::Result<Vec<ObjectMeta>> {
    let mut found = Vec::new();
    let mut folders = vec![Path::ROOT];
    for (i, part) in pattern.parts().iter().enumerate() {
        let is_last = i + 1 == pattern.parts().len();
        let matches = |path: &Path| path.filename().is_some_and(|name| part.matches(name));
        let mut below = Vec::new();
        for folder in folders {
            let prefix = (!folder.is_root()).then_some(&folder);
            if part.is_any_depth() {
                let mut objects = store.list(prefix);
                while let Some(object) = objects.try_next().await? {
                    if pattern.matches(object.location.as_ref()) {
                        found.push(object);
                    }
                }
            } else if let (false, Some(name)) = (is_last, part.literal()) {
                below.push(Path::parse(format!("{folder}/{name}"))?);
            } else {
                let level = store.list_with_delimiter(prefix).await?;
                match is_last {
                    true => found.extend(level.objects.into_iter().filter(|object| matches(&object.location))),
                    false => below.extend(level.common_prefixes.into_iter().filter(|path| matches(path))),
                }
            }
        }
        folders = below;
    }
    Ok(found)
}

/// Removes an object.
pub(super) fn remove(url: &str, options: &StoreOptions) -> io::Result<()> {
    let Object { store, path } = Object::of(url, options)?;
    Ok(wait(limited(async move { store.delete(&path).await.map_err(problem) }))??)
}

type Chunks = mpsc::Receiver<Result<Vec<u8>, FileProblem>>;

/// Reads an object from some byte on, in pieces: one request each, one of them ahead of the reader.
///
/// So no request waits for a slow reader, however much there is to read, and stores don't end connections that seem idle.
/// A web server that knows no ranges sends its file in one stream, at the reader's pace.
pub(super) struct Download {
    object: Object,
    listed: Listed,
    /// The next request begins here.
    next: u64,
    /// Where the reader will probably stop.
    wanted: u64,
    coming: Option<JoinHandle<Result<DownloadChunk, FileProblem>>>,
    stream: Option<Chunks>,
    chunk: Cursor<Bytes>,
}

enum DownloadChunk {
    Bytes(Bytes),
    /// All of the file.
    Stream(BoxStream<'static, object_store::Result<Bytes>>),
}

impl Download {
    pub(super) fn open(url: &str, listed: &Listed, range: Range<u64>, options: &StoreOptions) -> io::Result<Self> {
        let mut download = Self {
            object: Object::of(url, options)?,
            listed: listed.clone(),
            next: range.start,
            wanted: range.end,
            coming: None,
            stream: None,
            chunk: Cursor::default(),
        };
        download.request(range.end)?;
        Ok(download)
    }

    /// Begins the next piece, which ends before a byte.
    fn request(&mut self, end: u64) -> io::Result<()> {
        let range = self.next..end.min(self.next + PIECE).min(self.listed.size);
        self.next = range.end;
        let piece = piece(self.object.clone(), self.listed.clone(), range);
        self.coming = Some(event_loop()?.spawn(limited(piece)));
        Ok(())
    }

    /// Waits for the next bytes; `None` at the end.
    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        if let Some(mut chunks) = self.stream.take() {
            let (chunk, chunks) = wait(async move { (chunks.recv().await, chunks) })?;
            self.stream = Some(chunks);
            return Ok(chunk.transpose()?.map(Bytes::from));
        }
        let coming = match self.coming.take() {
            Some(coming) => coming,
            None if self.next >= self.listed.size => return Ok(None),
            None => {
                self.request(self.next + BEHIND)?;
                return self.receive();
            }
        };
        match join(coming)?? {
            DownloadChunk::Bytes(bytes) => {
                if self.next < self.wanted {
                    self.request(self.wanted)?;
                }
                Ok(Some(bytes))
            }
            DownloadChunk::Stream(stream) => {
                let (send, receive) = mpsc::channel(AHEAD);
                event_loop()?.spawn(pump(stream, send));
                self.stream = Some(receive);
                self.receive()
            }
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(coming) = &self.coming {
            coming.abort();
        }
    }
}

async fn piece(object: Object, listed: Listed, range: Range<u64>) -> Result<DownloadChunk, FileProblem> {
    let Object { store, path } = &object;
    let is_all = range.start == 0 && range.end == listed.size;
    // Not every web server knows ranges.
    let part = (!is_all).then(|| GetRange::Bounded(range.clone()));
    let mut result = store.get_opts(path, GetOptions { range: part, ..GetOptions::default() }).await;
    let mut is_stream = false;
    if range.start == 0 && matches!(result, Err(object_store::Error::NotSupported { .. })) {
        is_stream = true;
        result = store.get_opts(path, GetOptions::default()).await;
    }
    let result = result.map_err(problem)?;
    let tags = listed.tag.as_ref().zip(result.meta.e_tag.as_deref().map(plain_tag));
    if result.meta.size != listed.size || tags.is_some_and(|(listed, found)| *listed != found) {
        return Err(FileProblem::Changed { listed: listed.size, found: result.meta.size });
    }
    match is_stream {
        true => Ok(DownloadChunk::Stream(result.into_stream())),
        false => result.bytes().await.map(DownloadChunk::Bytes).map_err(problem),
    }
}

/// Moves a stream to its reader; ends when nobody reads it.
async fn pump(
    mut stream: BoxStream<'static, object_store::Result<Bytes>>,
    to: mpsc::Sender<Result<Vec<u8>, FileProblem>>,
) {
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        let next = tokio::select! {
            next = limited(async { Ok(stream.next().await) }) => next,
            // Also while nothing comes.
            () = to.closed() => return,
        };
        match next.and_then(|next| next.transpose().map_err(problem)) {
            Ok(Some(bytes)) => {
                chunk.extend_from_slice(&bytes);
                if chunk.len() >= CHUNK {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                    if to.send(Ok(full)).await.is_err() {
                        return;
                    }
                }
            }
            Ok(None) if chunk.is_empty() => return,
            Ok(None) => return drop(to.send(Ok(chunk)).await),
            Err(e) => return drop(to.send(Err(e)).await),
        }
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.chunk.read(buf)?;
            if got > 0 || buf.is_empty() {
                return Ok(got);
            }
            match self.receive()? {
                Some(bytes) => self.chunk = Cursor::new(bytes),
                None => return Ok(0),
            }
        }
    }
}

/// An object that is being written: in one request if it is small, else in parts. The store shows it when all is there.
pub(super) struct Upload {
    object: Object,
    part: Vec<u8>,
    parts: Option<MultipartUpload>,
}

impl Upload {
    pub(super) fn create(url: &str, options: &StoreOptions) -> io::Result<Self> {
        Ok(Self { object: Object::of(url, options)?, part: Vec::new(), parts: None })
    }

    fn send_part(&mut self) -> io::Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => {
                let Object { store, path } = self.object.clone();
                none.insert(MultipartUpload::send(async move { store.put_multipart(&path).await })?)
            }
        };
        parts.step(UploadStep::Part(std::mem::take(&mut self.part)))
    }
}

impl Write for Upload {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let some = buf.len().min(PART - self.part.len());
        self.part.extend_from_slice(&buf[..some]);
        if self.part.len() == PART {
            self.send_part()?;
        }
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Upload {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.parts.is_some() && !self.part.is_empty() {
            self.send_part()?;
        }
        if let Some(parts) = &mut self.parts {
            parts.step(UploadStep::Complete)?;
            return parts.settle();
        }
        let Self { object: Object { store, path }, part, .. } = *self;
        wait(limited(async move { store.put(&path, part.into()).await.map_err(problem) }))??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> (String, String) {
        StorePlace::of(url).map_or_else(|e| (e.to_string(), String::new()), |place| (place.base, place.key))
    }

    #[test]
    fn urls_are_taken_apart() {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(place("s3://bucket/a%20b/c d.txt"), pair("s3://bucket", "a%20b/c d.txt"));
        assert_eq!(place("s3://bucket"), pair("s3://bucket", ""));
        assert_eq!(place("http://host:80/a/b.txt"), pair("http://host", "a/b.txt"));
        assert_eq!(place("https://host/a%20b.txt"), pair("https://host", "a b.txt"));
        assert_eq!(place("https://host/a.txt?v=2"), pair("https://host/a.txt?v=2", ""));
        assert_eq!(place("https://host/a//b.txt"), pair("https://host/a//b.txt", ""));
        assert!(place("s3:///key").0.contains("bucket"));
    }

    #[test]
    fn unknown_options_are_refused() {
        let options = StoreOptions::from([("colour".to_string(), "red".to_string())]);
        for url in ["s3://bucket/key", "gs://bucket/key", "az://container/key", "http://host/key"] {
            let refused = Object::of(url, &options).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(refused.contains("`colour` is not an option"), "{url}: {refused}");
        }
    }
}
