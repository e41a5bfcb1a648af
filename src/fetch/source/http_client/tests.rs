//! Requests over connections that are dead, or reached by a proxy.
