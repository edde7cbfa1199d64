//! A socket that listens for each loop, where the system deals out the clients among them.

use std::io;
use std::net::TcpListener;

/// Returns as many listening sockets as there are loops if others may listen beside the first one; otherwise that one.
///
/// # Errors
///
/// When the system has no descriptor.
#[cfg(target_os = "linux")]
pub(crate) fn listeners(first: TcpListener, count: usize) -> io::Result<Vec<TcpListener>> {
    use socket2::{Domain, SockRef, Socket, Type};

    let address = first.local_addr()?;
    let may_join = SockRef::from(&first).reuse_port()?;
    let mut listeners = vec![first];
    while may_join && listeners.len() < count {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.set_tcp_nodelay(true)?; // which its connections inherit
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::MAX)?;
        listeners.push(TcpListener::from(socket));
    }
    Ok(listeners)
}

/// Elsewhere, one loop accepts all clients, and deals them out.
#[cfg(not(target_os = "linux"))]
pub(crate) fn listeners(first: TcpListener, _: usize) -> io::Result<Vec<TcpListener>> {
    Ok(vec![first])
}
