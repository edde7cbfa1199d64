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

    wake_for_data_only(&first);
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
        wake_for_data_only(&socket);
        listeners.push(TcpListener::from(socket));
    }
    Ok(listeners)
}

/// Has the system tell of a client when it has sent something, or after a second of silence. Otherwise the loop is woken
/// twice for a client that connects and asks, and nothing can be said to it the first time: with a connection for each
/// request, that is a quarter of all work.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "no library has this option, and std has it in nightly versions only"
)]
fn wake_for_data_only(socket: &impl std::os::fd::AsRawFd) {
    let seconds: libc::c_int = 1;
    let size = size_of_val(&seconds) as libc::socklen_t;
    // SAFETY: the pointer is that of a local variable, of the size that is given with it. The system reads it, and keeps
    // nothing. If it refuses the option, all goes on as it would without.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size,
        );
    }
}

/// Elsewhere, one loop accepts all clients, and deals them out.
#[cfg(not(target_os = "linux"))]
pub(crate) fn listeners(first: TcpListener, _: usize) -> io::Result<Vec<TcpListener>> {
    Ok(vec![first])
}
