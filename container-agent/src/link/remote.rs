//! The real server: WebSocket and HTTP.

use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};
use tokio_util::io::ReaderStream;
use uspark_shared::id::{BlobHash, ProjectId};

use super::{BlobError, BlobStream, Connection, MAX_WAITING_FRAMES, Server, Upload, UploadContent};
use crate::api::{Api, ApiError, Refusal};

/// Longest message, both ways: the server's limit for an update, and its frame around it.
const MAX_MESSAGE_BYTES: usize = (64 << 20) + (64 << 10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Blobs above this are asked for before they are sent; below it the question costs as much.
const ASK_FIRST_BYTES: u64 = 64 << 10;
/// Frames read ahead of the engine.
const MAX_READ_FRAMES: usize = 64;

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A server and the project that is meant on it.
pub struct RemoteServer {
    api: Api,
    project: ProjectId,
}

impl RemoteServer {
    /// Prepares to talk to a server; nothing is sent yet.
    pub fn new(api: Api, project: ProjectId) -> Self {
        Self { api, project }
    }

    async fn open(&self) -> Result<Connection, String> {
        let mut url = self.api.server().call(["collab"]);
        let secure = url.scheme() == "https";
        url.set_scheme(if secure { "wss" } else { "ws" })
            .map_err(|()| "the server's address has no WebSocket form".to_owned())?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let tls = Connector::Rustls(self.api.tls());
        let no_delay = true;
        let open = tokio_tungstenite::connect_async_tls_with_config(
            url.as_str(),
            Some(config),
            no_delay,
            Some(tls),
        );
        let (socket, _) = tokio::time::timeout(CONNECT_TIMEOUT, open)
            .await
            .map_err(|_| format!("no answer for {} s", CONNECT_TIMEOUT.as_secs()))?
            .map_err(|error| error.to_string())?;
        let (outgoing, to_send) = mpsc::channel(MAX_WAITING_FRAMES);
        let (received, incoming) = mpsc::channel(MAX_READ_FRAMES);
        // Ends with the socket, or with whoever holds the other ends of its channels.
        tokio::spawn(pump(socket, to_send, received));
        Ok(Connection { outgoing, incoming })
    }
}

impl Server for RemoteServer {
    fn connect(&self) -> BoxFuture<'_, Result<Connection, String>> {
        self.open().boxed()
    }

    fn upload(&self, upload: Upload) -> BoxFuture<'_, Result<BlobHash, BlobError>> {
        async move {
            let Upload {
                hash,
                size,
                content,
            } = upload;
            if size > ASK_FIRST_BYTES {
                let had = self.api.blob_size(&self.project, &hash).await;
                if had.map_err(|error| failed(error, hash))?.is_some() {
                    return Ok(hash);
                }
            }
            let body = match content {
                UploadContent::Bytes(bytes) => reqwest::Body::from(bytes),
                UploadContent::File(file) => {
                    // A file that grows meanwhile is sent as long as it was announced.
                    let file = tokio::fs::File::from_std(file).take(size);
                    reqwest::Body::wrap_stream(ReaderStream::with_capacity(file, 256 << 10))
                }
            };
            let stored = self.api.put_blob(&self.project, body, size).await;
            stored
                .map(|stored| stored.hash)
                .map_err(|error| failed(error, hash))
        }
        .boxed()
    }

    fn download(&self, hash: BlobHash) -> BoxFuture<'_, Result<BlobStream, BlobError>> {
        async move {
            let pieces = self.api.get_blob(&self.project, &hash, 0).await;
            let pieces = pieces.map_err(|error| failed(error, hash))?;
            let pieces = pieces.map(move |piece| piece.map_err(|error| failed(error, hash)));
            Ok(pieces.boxed())
        }
        .boxed()
    }
}

/// Moves frames between a socket and its two channels until any of them ends.
///
/// Reading never waits for writing: a server that writes to us before it reads on would otherwise
/// wait for ever.
async fn pump(
    socket: Socket,
    to_send: mpsc::Receiver<Vec<u8>>,
    received: mpsc::Sender<Result<Vec<u8>, String>>,
) {
    let (sink, stream) = socket.split();
    let why = tokio::select! {
        why = write(sink, to_send) => why,
        why = read(stream, &received) => why,
    };
    // Whoever listened may be gone.
    let _ = received.send(Err(why)).await;
}

/// Sends what waits, all of it in one go. Gives why it ended.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut waiting: mpsc::Receiver<Vec<u8>>,
) -> String {
    while let Some(first) = waiting.recv().await {
        let sent = async {
            sink.feed(Message::Binary(first.into())).await?;
            while let Ok(frame) = waiting.try_recv() {
                sink.feed(Message::Binary(frame.into())).await?;
            }
            sink.flush().await
        };
        if let Err(error) = sent.await {
            return error.to_string();
        }
    }
    // Given up from this side; the peer is told if it still listens.
    let _ = sink.close().await;
    "the connection was given up".into()
}

/// Receives what comes. Gives why it ended.
async fn read(
    mut stream: SplitStream<Socket>,
    received: &mpsc::Sender<Result<Vec<u8>, String>>,
) -> String {
    loop {
        match stream.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                if received.send(Ok(bytes.into())).await.is_err() {
                    return "nobody listens any more".into();
                }
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                let (code, reason) = (frame.code, frame.reason);
                return format!("the server closed the connection: {code} {reason}");
            }
            Some(Ok(Message::Close(None))) => return "the server closed the connection".into(),
            // Pings are answered by the library; text is nothing of this protocol.
            Some(Ok(_)) => {}
            Some(Err(error)) => return error.to_string(),
            None => return "the connection was lost".into(),
        }
    }
}

fn failed(error: ApiError, hash: BlobHash) -> BlobError {
    if error.refusal() == Some(Refusal::NotFound) {
        return BlobError::Missing(hash);
    }
    let mut why = error.to_string();
    if let Some(cause) = error.cause() {
        why = format!("{why}: {cause}");
    }
    if error.is_transient() {
        BlobError::Passing(why)
    } else {
        BlobError::Refused(why)
    }
}
