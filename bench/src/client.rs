//! A load client of few instructions: it speaks y-websocket, or Hocuspocus' framing, to any server, and
//! keeps no document.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async};
use uspark_shared::codec::Writer;
use uspark_shared::codec::collab::{Address, ClientAuth, CollabFrame, CollabMessage, ServerFrame};
use uspark_shared::codec::message::{Message, SyncMessage, decode_frame};

/// How long a server may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A document on a server, as a client is told of it.
#[derive(Debug, Clone)]
pub struct Target {
    /// `ws://host:port/…`.
    pub url: String,
    /// The document's name inside each frame, where the protocol has one.
    pub framed: Option<String>,
}

/// A connection to one document.
pub struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    framed: Option<String>,
}

/// What a server sent that matters here.
#[derive(Debug)]
pub enum Said {
    /// What this client lacked when it joined.
    Step2(Vec<u8>),
    /// What somebody else wrote.
    Update(Vec<u8>),
    /// Anything else.
    Other,
}

impl Connection {
    /// Connects, and joins the document: sends an empty state vector. What the server answers comes with
    /// [`Self::next`].
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        let address = target.url.strip_prefix("ws://").context("a ws:// URL")?;
        let address = address.split('/').next().unwrap_or_default();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let opened = client_async(target.url.as_str(), MaybeTlsStream::Plain(stream));
        let (socket, _) = timeout(PATIENCE, opened).await??;
        let mut connection = Self {
            socket,
            framed: target.framed.clone(),
        };
        if connection.framed.is_some() {
            let auth = CollabMessage::Auth(ClientAuth::Token {
                token: "none",
                version: Some("4.7.0"),
            });
            connection.send_framed(auth).await?;
        }
        connection.ask().await?;
        Ok(connection)
    }

    /// Asks for everything, as one who has nothing.
    pub async fn ask(&mut self) -> anyhow::Result<()> {
        self.sync(SyncMessage::Step1(&[0])).await
    }

    /// Connects, joins, and waits for the first content that the server gives: returns its bytes.
    pub async fn join(target: &Target) -> anyhow::Result<(Self, Vec<u8>)> {
        let mut connection = Self::open(target).await?;
        loop {
            if let Said::Step2(update) = connection.next().await? {
                return Ok((connection, update));
            }
        }
    }

    /// Sends an update.
    pub async fn update(&mut self, update: &[u8]) -> anyhow::Result<()> {
        self.sync(SyncMessage::Update(update)).await
    }

    /// Sets this client's awareness state, as every provider does when it joins.
    pub async fn aware(&mut self, client: u64, clock: u64) -> anyhow::Result<()> {
        let mut body = Writer::new();
        let state = format!(r#"{{"user":{{"name":"{client}"}}}}"#);
        body.var_uint(1).var_uint(client).var_uint(clock);
        let body = body.var_string(&state);
        let body = std::mem::take(body).into_bytes();
        match &self.framed {
            None => self.send(Message::Awareness(&body).encode()).await,
            Some(_) => self.send_framed(CollabMessage::Awareness(&body)).await,
        }
    }

    /// The next thing that the server says.
    pub async fn next(&mut self) -> anyhow::Result<Said> {
        let frame = timeout(PATIENCE, self.socket.next()).await;
        match frame.context("the server is silent")? {
            Some(Ok(Frame::Binary(bytes))) => self.said(&bytes),
            Some(Ok(Frame::Close(why))) => bail!("the server closed: {why:?}"),
            Some(Ok(_)) => Ok(Said::Other),
            Some(Err(error)) => Err(error.into()),
            None => bail!("the server is gone"),
        }
    }

    /// Ends the connection as a client does.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.socket.close(None).await?;
        Ok(())
    }

    fn said(&self, bytes: &[u8]) -> anyhow::Result<Said> {
        let sync = match &self.framed {
            None => {
                let messages = decode_frame(bytes)?;
                ensure!(
                    messages.len() == 1,
                    "a frame of {} messages",
                    messages.len()
                );
                match messages[0] {
                    Message::Sync(sync) => sync,
                    Message::AuthDenied(why) => bail!("denied: {why}"),
                    _ => return Ok(Said::Other),
                }
            }
            Some(_) => match ServerFrame::decode(bytes)? {
                CollabFrame::Document {
                    message: CollabMessage::Sync(sync) | CollabMessage::SyncReply(sync),
                    ..
                } => sync,
                _ => return Ok(Said::Other),
            },
        };
        Ok(match sync {
            SyncMessage::Step1(_) => Said::Other,
            SyncMessage::Step2(update) => Said::Step2(update.to_vec()),
            SyncMessage::Update(update) => Said::Update(update.to_vec()),
        })
    }

    async fn sync(&mut self, sync: SyncMessage<'_>) -> anyhow::Result<()> {
        match &self.framed {
            None => self.send(Message::Sync(sync).encode()).await,
            Some(_) => self.send_framed(CollabMessage::Sync(sync)).await,
        }
    }

    async fn send_framed(
        &mut self,
        message: CollabMessage<'_, ClientAuth<'_>>,
    ) -> anyhow::Result<()> {
        let name = self.framed.as_deref().unwrap_or_default();
        let frame = CollabFrame::new(Address::new(name), message).encode();
        self.send(frame).await
    }

    async fn send(&mut self, frame: Vec<u8>) -> anyhow::Result<()> {
        self.socket.send(Frame::Binary(frame.into())).await?;
        Ok(())
    }
}

/// How long ago, in milliseconds.
pub fn ms_since(then: Instant) -> f64 {
    then.elapsed().as_secs_f64() * 1000.0
}
