# Broken: HTTP/1.1 to the servers; Varnish has nothing else.
vcl 4.1;
backend servers {
    .host = "127.0.0.1";
    .port = "{server}";
}
sub vcl_recv {
    return (pass);
}
