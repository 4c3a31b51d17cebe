//! Clients of both sockets that send what they are told to, and read only when asked.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};
use tokio_tungstenite::{WebSocketStream, client_async};
use uspark_shared::codec::collab::{Address, ClientAuth, ClientFrame, CollabMessage};
use uspark_shared::codec::message::{Message as Said, SyncMessage};

/// A socket over any stream.
pub struct Socket<S>(WebSocketStream<S>);

impl Socket<TcpStream> {
    /// On a connection of its own.
    pub async fn connect(address: SocketAddr, path: &str) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap(), path).await
    }

    /// At a document by y-websocket.
    pub async fn ws(address: SocketAddr, document: &str, token: &str) -> Self {
        Self::connect(address, &format!("/ws/{document}?token={token}")).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    pub async fn over(stream: S, path: &str) -> Self {
        let request = format!("ws://localhost{path}")
            .into_client_request()
            .unwrap();
        Self(client_async(request, stream).await.unwrap().0)
    }

    pub async fn send(&mut self, frame: Vec<u8>) {
        assert!(self.try_send(frame).await, "the socket is closed");
    }

    /// Sends on a socket that may be closed; gives whether it was not known to be.
    pub async fn try_send(&mut self, frame: Vec<u8>) -> bool {
        self.0.send(Message::Binary(frame.into())).await.is_ok()
    }

    /// Asks for the whole document.
    pub async fn ask(&mut self) {
        self.send(Said::Sync(SyncMessage::Step1(&[0])).encode())
            .await;
    }

    pub async fn update(&mut self, update: &[u8]) {
        self.send(Said::Sync(SyncMessage::Update(update)).encode())
            .await;
    }

    /// Shows a token for a document on `/collab`.
    pub async fn auth(&mut self, document: &str, token: &str) {
        self.send(auth(document, token)).await;
    }

    /// Whether the server answers as one who may read.
    pub async fn is_served(&mut self) -> bool {
        let question = Said::Sync(SyncMessage::Step1(&[0])).encode();
        self.try_send(question).await;
        loop {
            match self.0.next().await {
                // Not the message that denies it.
                Some(Ok(Message::Binary(frame))) => return frame[0] == 0,
                Some(Ok(Message::Ping(_))) => {}
                _ => return false,
            }
        }
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Vec<u8> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(frame))) => return frame.into(),
                Some(Ok(Message::Ping(_))) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The close code and its reason, after what else comes.
    pub async fn closed(&mut self) -> (u16, String) {
        let (_, code, reason) = self.until_closed().await;
        (code, reason)
    }

    /// What comes until the socket is closed, the close code and its reason.
    pub async fn until_closed(&mut self) -> (Vec<Vec<u8>>, u16, String) {
        let mut frames = Vec::new();
        loop {
            match self.0.next().await {
                Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => {
                    return (frames, code.into(), reason.to_string());
                }
                Some(Ok(Message::Close(None)) | Err(_)) | None => panic!("no close frame"),
                Some(Ok(Message::Binary(frame))) => frames.push(frame.into()),
                Some(Ok(_)) => {}
            }
        }
    }
}

/// The frame that shows a token for a document on `/collab`.
pub fn auth(document: &str, token: &str) -> Vec<u8> {
    let version = None;
    let auth = CollabMessage::Auth(ClientAuth::Token { token, version });
    ClientFrame::new(Address::new(document), auth).encode()
}
