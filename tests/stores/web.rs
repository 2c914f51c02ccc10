//! Files on web servers.

use crate::{clients, failure};
use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use swath::files::{FileProblem, Files, Output};
use swath::{Bag, Client};

/// A web server on this machine.
struct Web {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    fn start(routes: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static) -> Self {
        let (send, receive) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let server = HttpServer::new(move || App::new().configure(routes.clone())).workers(1);
                let server = server.disable_signals().bind("127.0.0.1:0").unwrap();
                let address = server.addrs()[0];
                let server = server.run();
                send.send((address, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (address, handle) = receive.recv().unwrap();
        Self { address, handle, thread: Some(thread) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        let _ = self.thread.take().unwrap().join();
    }
}

#[test]
fn files_of_a_web_server() {
    let dir = crate::common::directory();
    let all: Vec<_> = (0..30_000).map(|i| format!("line {i}")).collect();
    let write = |name: &str| {
        let file = &Output::new([dir.path().join(name)]).files(1).unwrap()[0];
        file.write(|to| all.iter().try_for_each(|line| writeln!(to, "{line}"))).unwrap();
    };
    write("a b.txt");
    write("c.txt.gz");
    let root = dir.path().to_path_buf();
    let web = Web::start(move |app| {
        app.service(actix_files::Files::new("/data", &root));
    });
    for client in clients() {
        let whole = Bag::read_text([web.url("data/a%20b.txt"), web.url("data/c.txt.gz")]).unwrap();
        let lines = whole.compute(&client).unwrap();
        assert!(lines[..30_000] == all && lines[30_000..] == all);
        let split = Bag::read_text(Files::new(web.url("data/a%20b.txt")).blocksize(100_000)).unwrap();
        assert_eq!(split.npartitions(), 4);
        assert_eq!(split.compute(&client).unwrap(), all);
        let query =
            Bag::read_text(Files::new(web.url("data/c.txt.gz?version=2")).compression(swath::files::Compression::Gzip));
        assert_eq!(query.unwrap().count().compute(&client).unwrap(), all.len());
    }
    let missing = Files::new(web.url("data/missing.txt")).blocks().unwrap_err();
    assert_eq!(missing.to_string(), format!("{}: no such file", web.url("data/missing.txt")));
    // A web server lists nothing, so a pattern is just a name.
    assert!(Files::new(web.url("data/*.txt")).blocks().is_err());
}

#[test]
fn servers_without_ranges_and_with_put() {
    type Kept = Arc<Mutex<BTreeMap<String, web::Bytes>>>;

    async fn get(kept: web::Data<Kept>, request: HttpRequest) -> HttpResponse {
        match kept.lock().get(request.path()) {
            Some(bytes) => HttpResponse::Ok().body(bytes.clone()),
            None => HttpResponse::NotFound().finish(),
        }
    }
    async fn put(kept: web::Data<Kept>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
        kept.lock().insert(request.path().to_string(), body);
        HttpResponse::Created().finish()
    }

    let kept = Kept::default();
    let web = Web::start(move |app| {
        let all = web::resource("/{all:.*}").get(get).head(get).put(put);
        app.app_data(web::Data::new(Arc::clone(&kept))).app_data(web::PayloadConfig::new(64 << 20)).service(all);
    });
    let client = Client::threads(2);
    let words = Bag::from_sequence((0..100).map(|i| i.to_string()), 3);
    let paths = words.write_text(web.url("out/*.txt")).unwrap().compute(&client).unwrap();
    assert_eq!(paths[0], web.url("out/0.txt"));
    assert_eq!(Bag::read_text(paths.clone()).unwrap().count().compute(&client).unwrap(), 100);
    // More than is asked for at once.
    let many = Bag::range(0..300_000, 1).map(|i| format!("the line of number {i:020}"));
    let paths = many.write_text(web.url("many-*.txt")).unwrap().compute(&client).unwrap();
    assert!(Bag::read_text(&paths).unwrap().compute(&client).unwrap() == many.compute(&client).unwrap());

    let split = Bag::read_text(Files::new(&*paths[0]).blocksize(1 << 20)).unwrap();
    let error = failure(split.compute(&client));
    assert!(error.to_string().to_lowercase().contains("range"), "{error}");
}

/// Reads a request; whether it is a `GET`.
fn wants_body(stream: &TcpStream) -> bool {
    let mut request = String::new();
    let mut lines = BufReader::new(stream);
    while lines.read_line(&mut request).unwrap() > 2 {}
    request.starts_with("GET")
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n";

/// Says that a file has 1000 bytes, and never sends all of them.
#[test]
fn a_connection_that_breaks() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.txt", listener.local_addr().unwrap());
    let (stop, stopped) = mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if stopped.try_recv().is_ok() {
                return;
            }
            let mut stream = stream.unwrap();
            let body = if wants_body(&stream) { "half of it\n" } else { "" };
            let _ = stream.write_all(format!("{HEAD}{body}").as_bytes());
        }
    });
    let lines = Bag::read_text(&*url).unwrap();
    let error = failure(lines.compute(&Client::threads(1)));
    assert!(matches!(error.problem(), FileProblem::Io { .. }), "{error}");
    assert!(error.to_string().starts_with(&url), "{error}");
    stop.send(()).unwrap();
    drop(TcpStream::connect(url.trim_start_matches("http://").trim_end_matches("/a.txt")));
    server.join().unwrap();
}

#[test]
fn a_task_that_is_cancelled_lets_go_of_its_download() {
    for client in clients().into_iter().skip(1) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/a.txt", listener.local_addr().unwrap());
        let (begun, begins) = mpsc::channel();
        let server = std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let wants_body = wants_body(&stream);
                let _ = stream.write_all(HEAD.as_bytes());
                if wants_body {
                    begun.send(()).unwrap();
                    // Nothing comes, until the other side has gone.
                    let _ = stream.read_to_end(&mut Vec::new());
                    return;
                }
            }
        });
        let future = client.submit(&Bag::read_text(&*url).unwrap().count()).unwrap();
        begins.recv_timeout(crate::common::LONG).unwrap();
        client.cancel(&future);
        assert!(future.result().unwrap_err().is_cancelled());
        crate::common::until("the connection is closed", || server.is_finished());
        server.join().unwrap();
        // The worker lives on.
        assert_eq!(swath::delayed::value(1).compute(&client).unwrap(), 1);
        assert!(client.deaths().unwrap().is_empty());
    }
}
