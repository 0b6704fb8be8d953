//! A server's metrics in Prometheus' text format, before and after a run: what has changed in them is
//! what the run made the server do.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::report::{Table, Unit};

/// Scrapes are not part of what is measured.
const PATIENCE: Duration = Duration::from_secs(5);
/// Far above what a server tells.
const MAX_BYTES: u64 = 16 << 20;

/// Values by name and labels, as they are written. A histogram's buckets are left out: its sum and
/// its count are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    /// Asks `http://ADDRESS/metrics`.
    ///
    /// # Errors
    /// If there is no such page.
    pub fn of(address: &str) -> io::Result<Self> {
        let body = get(address)?;
        Ok(Self::parse(&body))
    }

    /// `name{label="value"} 1.5 [time]`, and comments. What is no such line is left out.
    fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            // A label's value may have blanks.
            let end = line
                .rfind('}')
                .map_or_else(|| line.find(' '), |at| Some(at + 1))?;
            let (name, rest) = line.split_at(end);
            let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
            let plain = name.split('{').next().unwrap_or_default();
            let wanted = !plain.starts_with('#') && !plain.ends_with("_bucket");
            wanted.then(|| (name.to_owned(), value))
        };
        Self(text.lines().filter_map(sample).collect())
    }

    /// What is not as it was before. What was not there before was 0.
    pub fn changes_since(&self, before: &Self) -> Table {
        let columns = [
            ("before", Unit::Number),
            ("after", Unit::Number),
            ("change", Unit::Number),
        ];
        let mut table = Table::new("what changed in the server's metrics", &columns);
        for (name, after) in &self.0 {
            let was = before.0.get(name).copied();
            let change = after - was.unwrap_or(0.0);
            if change.abs() > 0.0 {
                table.row(name.clone(), &[was, Some(*after), Some(change)]);
            }
        }
        table
    }
}

fn get(address: &str) -> io::Result<String> {
    let found = address.to_socket_addrs()?.next();
    let found = found.ok_or_else(|| io::Error::other("no such host"))?;
    let mut stream = TcpStream::connect_timeout(&found, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // With 1.0, the end of the connection is that of the answer.
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
    // In one piece: `write!` would make several, and one who has read enough may be gone by then.
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.lines().next().unwrap_or_default();
    match status.split_whitespace().nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("answers \"{status}\""))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    #[test]
    fn what_changed_is_told() {
        let before = Scrape::parse("# TYPE a counter\na 5\nb{x=\"1 } 2\"} 1\nsame 3\n");
        let after = Scrape::parse(
            "a 7 1700000000\nb{x=\"1 } 2\"} 1.5\nsame 3\nnew_sum 4\nnew_bucket{le=\"1\"} 9\nwrong\n",
        );
        let table = after.changes_since(&before);
        assert_eq!(table.rows, ["a", "b{x=\"1 } 2\"}", "new_sum"]);
        let change = &table.columns[2].values;
        assert_eq!(change, &[Some(2.0), Some(0.5), Some(4.0)]);
        assert_eq!(table.columns[0].values[2], None, "it was not there");
    }

    /// A server that answers one request.
    fn answering(answer: &'static str) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 1024];
            assert!(stream.read(&mut asked).unwrap() > 0);
            stream.write_all(answer.as_bytes()).unwrap();
        });
        (address, server)
    }

    #[test]
    fn only_a_page_of_metrics_is_one() {
        let (address, server) = answering("HTTP/1.0 200 OK\r\nServer: x\r\n\r\nup 1\n");
        assert_eq!(Scrape::of(&address).unwrap(), Scrape::parse("up 1"));
        server.join().unwrap();
        let (address, server) = answering("HTTP/1.0 404 Not Found\r\n\r\n");
        let error = Scrape::of(&address).unwrap_err().to_string();
        assert!(error.contains("404"), "{error}");
        server.join().unwrap();
    }
}
