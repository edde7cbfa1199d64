//! Tests the checks. A server with one mistake must fail the right check of the right stage, the report must
//! contain the right sentence, and the server must pass the stage before. A correct server in another style must
//! pass all checks.
//!
//! The servers are in tests/wrong/. The report of each mistake is kept in tests/reports/, where you can read it.
//! If you change a report on purpose, rewrite the files with `REWRITE=1 cargo test --test wrong_servers --
//! --include-ignored each_mistake`, and read the difference.

#![cfg(unix)] // the reports contain exit codes and error messages of Unix

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::thread;

use harness::{Stage, cargo, check_program, own_command, repository};
use pretty_assertions::assert_eq;

/// A mistake, the stage and the check that must catch it, and the sentence that the report must contain.
type Row = (&'static str, usize, &'static str, &'static str);

#[rustfmt::skip] // a table
const MISTAKES: &[Row] = &[
    ("another-port", 1, "listens_on_the_port_it_is_given", "your server does not listen on port PORT, but on port PORT"),
    ("exits-at-once", 1, "listens_on_the_port_it_is_given", "your server ended before a client could connect (exit status: 3)"),
    ("never-listens", 1, "listens_on_the_port_it_is_given", "your server is running, but cannot be reached on 127.0.0.1:PORT"),
    ("ends-after-one-client", 1, "goes_on_after_clients_have_left", "your server has ended"),
    ("never-accepts", 1, "accepts_one_client_after_another", "your server accepts no more connections"),
    ("spins-when-a-client-leaves", 1, "accepts_one_client_after_another", "your server accepts no more connections"),
    ("unwraps-everything", 1, "survives_clients_that_crash", "your server has ended (exit status: 101)"),
    ("answers-unread", 2, "reads_the_request_before_it_answers", "your server answers before the request is complete"),
    ("answers-unread", 2, "takes_a_long_request", "your server reset the connection"),
    ("reads-to-the-end", 2, "answers_200", "no answer within 5 seconds"),
    ("never-answers", 2, "answers_one_client_after_another", "no answer within 5 seconds"),
    ("prints-the-answer", 2, "answers_200", "your server closed the connection without an answer"),
    ("closes-without-answer", 2, "answers_200", "your server closed the connection without an answer"),
    ("never-closes", 2, "answers_200", "the answer does not end"),
    ("newline-alone", 2, "answers_200", "a line of the answer ends with \\n alone"),
    ("no-blank-line", 2, "answers_200", "the head of the answer has no end"),
    ("no-version", 2, "answers_200", "the answer does not begin with a status line: HTTP/1.1 is expected"),
    ("no-status-code", 2, "answers_200", "a status code of three digits is expected"),
    ("no-space", 2, "answers_200", "a space after the status code is expected"),
    ("space-before-colon", 2, "answers_200", "a header of the answer has an invalid name"),
    ("keeps-the-carriage-return", 2, "answers_200", "the status is 400"),
    ("reads-once", 2, "reads_the_request_before_it_answers", "your server answers before the request is complete"),
    ("answers-half-requests", 2, "goes_on_after_a_client_that_left_too_early", "your server answers 200 to half a request"),
    ("always-200", 3, "answers_404_for_any_other_path", "the status is 200, not 404"),
    ("searches-the-whole-request", 3, "takes_the_path_from_the_request_line_and_nowhere_else", "the status is 200, not 404"),
    ("keeps-the-query", 3, "leaves_the_query_out", "the status is 404, not 200"),
    ("never-says-400", 3, "refuses_a_malformed_request_line", "the status is 404, not 400"),
    ("tolerates-extra-spaces", 3, "refuses_a_malformed_request_line", "the status is 200, not 400"),
    ("content-type-html", 4, "describes_the_body", "Content-Type is \"text/html\", not \"text/plain\""),
    ("says-no-length", 4, "describes_the_body", "the answer does not say how long its body is"),
    ("counts-characters", 4, "counts_bytes_not_characters", "Content-Length is 4, but the body has 5 bytes"),
    ("length-too-long", 4, "echoes_the_text_in_the_path", "Content-Length is 7, but the body has 6 bytes"),
    ("adds-a-newline", 4, "echoes_the_text_in_the_path", "Content-Length is 6, but the body has 7 bytes"),
    ("does-not-decode", 4, "decodes_percent_escapes", "the body is \"two%20words\", not \"two words\""),
    ("decodes-forms", 4, "decodes_percent_escapes", "the body is \"1 1\", not \"1+1\""),
    ("signed-escapes", 4, "refuses_broken_escapes", "the status is 200, not 400"),
    ("guesses-at-escapes", 4, "refuses_broken_escapes", "the status is 200, not 400"),
    ("gzip-always", 4, "echoes_the_text_in_the_path", "the body is compressed (gzip)"),
    ("names-with-case", 5, "header_names_ignore_case", "the body is \"\", not \"me\""),
    ("keeps-white-space", 5, "answers_with_the_user_agent", "the body is \" foobar/1.2.3\", not \"foobar/1.2.3\""),
    ("strips-one-space", 5, "white_space_around_a_value_is_not_part_of_it", "the body is"),
    ("finds-names-anywhere", 5, "finds_the_header_among_others", "the body is \"wrong\", not \"right\""),
    ("needs-the-header", 5, "goes_on_without_the_header", "your server has ended (exit status: 101)"),
    ("decodes-latin-1", 5, "length_counts_bytes", "the body is \"cafÃ©/1.0\", not \"café/1.0\""),
    ("demands-utf-8", 5, "takes_bytes_that_are_not_text", "your server has ended (exit status: 101)"),
    ("replaces-bytes", 5, "takes_bytes_that_are_not_text", "the body"),
    ("needs-a-colon", 5, "goes_on_without_the_header", "your server has ended (exit status: 101)"),
    ("one-at-a-time", 6, "silent_clients_do_not_delay_others", "no answer within 5 seconds"),
    ("pool-of-four", 6, "slow_clients_do_not_delay_others", "no answer within 5 seconds"),
    ("one-variable-for-all", 6, "everyone_gets_their_own_answer", "your server"),
    ("holds-a-lock", 6, "answers_in_any_order", "no answer within 5 seconds"),
    ("reads-files-as-text", 7, "sends_every_byte_as_it_is", "the body has 5999936 bytes, not the expected 3000000"),
    ("loads-whole-files", 7, "sends_a_large_file_without_loading_it", "your server used"),
    ("files-as-text-plain", 7, "sends_a_file", "Content-Type is \"text/plain\", not \"application/octet-stream\""),
    ("joins-blindly", 7, "no_name_leads_out_of_the_directory", "the status is 200, not 404 (or another 4xx)"),
    ("compares-prefixes", 7, "no_name_leads_out_of_the_directory", "the status is 200, not 404 (or another 4xx)"),
    ("follows-links", 7, "no_link_leads_out_of_the_directory", "the status is 200, not 404 (or another 4xx)"),
    ("created-is-200", 8, "stores_the_body", "the status is 200, not 201"),
    ("stores-nothing", 8, "stores_the_body", "the file \"text\" does not exist"),
    ("stores-what-came-with-the-head", 8, "tells_a_waiting_client_to_go_on", "the file \"a\" has 0 bytes, but 5 were sent"),
    ("reads-bodies-to-the-end", 8, "stores_the_body", "no answer within 5 seconds"),
    ("writes-in-place", 8, "a_file_appears_whole_or_not_at_all", "the directory should hold the files [\"old\"], but it holds [\"new\", \"old\"]"),
    ("leaves-temporary-files", 8, "a_file_appears_whole_or_not_at_all", "the directory should hold the files [\"old\"], but it holds"),
    ("one-temporary-name", 8, "two_uploads_of_one_name_do_not_mix", "your server closed the connection without an answer"),
    ("writes-in-place", 8, "two_uploads_of_one_name_do_not_mix", "the file should be one of two uploads"),
    ("stores-anywhere", 8, "no_upload_leads_out_of_the_directory", "the status is 201, not 404 (or another 4xx)"),
    ("replaces-folders", 8, "stores_nothing_that_is_no_file", "the status is 201, not 404"),
    ("continues-for-http-1-0", 8, "tells_a_waiting_client_to_go_on", "your server answers 100 Continue to HTTP/1.0"),
    ("ignores-expect", 8, "tells_a_waiting_client_to_go_on", "no answer within 5 seconds"),
    ("trusts-lengths", 8, "refuses_lengths_that_make_no_sense", "the status is 201, not 400"),
    ("only-says-gzip", 9, "compresses_when_asked", "the body is not valid gzip"),
    ("packs-into-a-string", 9, "compresses_when_asked", "the body is not valid gzip (invalid gzip header)"),
    ("flushes-instead-of-finishing", 9, "compresses_when_asked", "the body is not valid gzip"),
    ("gzip-if-alone", 9, "finds_gzip_in_a_list", "the answer has no Content-Encoding"),
    ("takes-the-first-line", 9, "finds_gzip_in_a_list", "the answer has no Content-Encoding"),
    ("ignores-weights", 9, "respects_a_weight_of_zero", "the answer has Content-Encoding: gzip"),
    ("gzip-by-substring", 9, "a_name_that_merely_contains_gzip_does_not_count", "the answer has Content-Encoding: gzip"),
    ("no-vary", 9, "tells_caches_what_the_answer_depends_on", "the answer has no Vary"),
    ("never-persists", 10, "answers_many_requests_on_one_connection", "your server closed the connection without an answer"),
    ("never-persists", 10, "keeps_several_connections_side_by_side", "your server closed the connection without an answer"),
    ("closes-after-404", 10, "answers_many_requests_on_one_connection", "your server closed the connection without an answer"),
    ("ignores-close", 10, "closes_when_the_client_asks_for_it", "the answer does not say Connection: close"),
    ("knows-close-alone", 10, "closes_when_the_client_asks_for_it", "the answer does not say Connection: close"),
    ("persists-in-http-1-0", 10, "closes_after_http_1_0", "your server does not close the connection"),
    ("forgets-what-it-has-read", 10, "answers_requests_that_were_sent_at_once", "no answer within 5 seconds"),
    ("loses-half-a-request", 10, "half_a_request_waits_for_its_other_half", "the status is 400, not 200"),
    ("refuses-empty-lines", 10, "an_empty_line_before_a_request_is_skipped", "the status is 400, not 200"),
    ("mixes-up-headers", 10, "each_request_has_its_own_headers", "the body is \"second\", but the request has no User-Agent"),
    ("waits-for-the-body-first", 10, "a_client_that_waits_is_not_kept_waiting", "no answer within 5 seconds"),
    ("ignores-bodies-of-get", 10, "an_unread_body_is_not_the_next_request", "the body is \"smuggled\", not \"next\""),
    ("does-not-skip-bodies", 10, "an_unread_body_is_not_the_next_request", "the body is \"smuggled\", not \"next\""),
    ("closes-instead-of-a-length", 10, "every_answer_says_where_it_ends", "the answer does not say how long its body is"),
    ("style-keep-alive", 11, "demands_one_valid_host", "the status is 200, not 400"),
    ("style-keep-alive", 11, "refuses_what_can_be_read_in_two_ways", "the status is 404, not 400"),
    ("style-keep-alive", 11, "refuses_what_it_does_not_do", "the status is 200, not 501"),
    ("style-keep-alive", 12, "limits_what_it_reads", "the status is 404, not 414"),
    ("style-keep-alive", 11, "knows_what_a_resource_allows", "the status is 200, not 405"),
    ("style-keep-alive", 11, "takes_a_whole_url", "the status is 404, not 200"),
    ("sends-no-allow", 11, "knows_what_a_resource_allows", "the answer has no Allow"),
    ("answers-head-in-full", 11, "answers_head_and_options_everywhere", "the answer has a body"),
    ("answers-head-of-404-in-full", 11, "answers_head_and_options_everywhere", "the answer has a body"),
    ("date-never-changes", 11, "the_date_goes_on", "for 5 seconds, all answers had the same Date: Sun, 06 Nov 1994 08:49:37 GMT"),
    ("style-keep-alive", 11, "sends_the_date", "the answer has no Date"),
    ("writes-dates-its-own-way", 11, "sends_the_date", "Date is \"Sun Nov  6 08:49:37 1994\""),
    ("style-keep-alive", 12, "times_out_slow_requests", "your server still waits for the rest of the head after 5 seconds"),
    ("limits-each-read", 12, "times_out_slow_requests", "your server still waits for the rest of the head after 5 seconds"),
    ("counts-from-the-connection", 12, "waiting_between_requests_is_not_slow", "your server closed the connection"),
    ("style-keep-alive", 12, "times_out_slow_bodies", "no answer within 5 seconds"),
    ("cuts-steady-bodies", 12, "times_out_slow_bodies", "the status is 408, not 201"),
    ("style-keep-alive", 12, "closes_idle_connections", "your server does not close the connection"),
    ("style-keep-alive", 12, "refuses_clients_when_it_is_full", "the status is 200, not 503"),
    ("no-retry-after", 12, "refuses_clients_when_it_is_full", "the answer has no Retry-After"),
    ("waits-for-idle-clients", 12, "finishes_its_work_when_it_is_stopped", "your server does not end after its last request"),
    ("style-keep-alive", 12, "finishes_its_work_when_it_is_stopped", "your server closed the connection without an answer"),
    ("chunks:no-extensions", 13, "takes_a_body_in_chunks", "the status is 400, not 200 (or another 2xx)"),
    ("chunks:decimal-sizes", 13, "takes_a_body_in_chunks", "the status is 400, not 200 (or another 2xx)"),
    ("chunks:one-read-for-a-chunk", 13, "takes_chunks_in_pieces", "your server"),
    ("chunks:no-trailers", 13, "finds_the_next_request_after_the_last_chunk", "the status is 400, not 200"),
    ("chunks:signed-sizes", 13, "refuses_chunks_that_can_be_read_in_two_ways", "the status is 201, not 400"),
    ("chunks:trims-sizes", 13, "refuses_chunks_that_can_be_read_in_two_ways", "the status is 201, not 400"),
    ("chunks:limits-each-line", 13, "refuses_chunks_that_can_be_read_in_two_ways", "the status is 201, not 431 or 400"),
    ("chunks:forgiving-line-ends", 13, "refuses_chunks_that_can_be_read_in_two_ways", "the status is 201, not 400"),
    ("chunks:skips-line-ends-unseen", 13, "refuses_chunks_that_can_be_read_in_two_ways", "the status is 201, not 400"),
    ("chunks:counts-each-chunk", 13, "refuses_chunks_that_can_be_read_in_two_ways", "the status is 201, not 413 or 400"),
    ("chunks:newline-alone", 13, "refuses_chunks_that_can_be_read_in_two_ways", "the status is 201, not 400"),
    ("chunks:forgiving-trailers", 13, "refuses_chunks_that_can_be_read_in_two_ways", "the status is 201, not 400"),
    ("chunks:no-limit", 13, "refuses_chunks_that_can_be_read_in_two_ways", "no answer within 5 seconds"),
    ("never-persists", 13, "knows_no_other_transfer_coding", "the answer does not say Connection: close"),
    ("style-keep-alive", 13, "unread_chunks_are_not_the_next_request", "the status is 400, not 200"),
    ("style-keep-alive", 13, "tells_a_client_that_waits_with_its_chunks", "the status is 400, not 100"),
    ("chunks:stores-incomplete-bodies", 13, "an_upload_that_breaks_off_leaves_nothing", "an interrupted upload left a file behind: b"),
    ("chunks:collected-stream", 13, "sends_what_there_is_as_it_comes", "the first line of the countdown"),
    ("chunks:takes-any-countdown", 13, "sends_what_there_is_as_it_comes", "the status is 200, not 404"),
    ("chunks:counts-too-fast", 13, "sends_what_there_is_as_it_comes", "the countdown from 3 took only"),
    ("chunks:empty-chunks", 13, "sends_what_there_is_as_it_comes", "bytes follow the last chunk, which has size 0"),
    ("chunks:no-last-chunk", 13, "sends_what_there_is_as_it_comes", "the chunked body does not end"),
    ("chunks:chunks-for-everyone", 13, "sends_no_chunks_to_http_1_0", "the answer has Transfer-Encoding: chunked"),
    ("stage12", 13, "compresses_files_while_it_reads_them", "the answer has no Content-Encoding"),
    ("chunks:no-vary", 13, "compresses_files_while_it_reads_them", "the answer has no Vary"),
    ("site:everything-is-html", 14, "sends_files_with_their_types", "Content-Type is \"text/html; charset=utf-8\", not \"text/css\""),
    ("site:says-no-charset", 14, "sends_files_with_their_types", "Content-Type is \"text/html\", without charset=utf-8"),
    ("site:scripts-as-application", 14, "sends_files_with_their_types", "Content-Type is \"application/javascript; charset=utf-8\", not \"text/javascript\""),
    ("site:types-with-case", 14, "sends_files_with_their_types", "Content-Type is \"application/octet-stream\", not \"image/jpeg\""),
    ("site:counts-the-first-dot", 14, "sends_files_with_their_types", "Content-Type is \"application/octet-stream\", not \"text/javascript\""),
    ("site:takes-names-for-extensions", 14, "sends_files_with_their_types", "Content-Type is \"text/css; charset=utf-8\", not \"application/octet-stream\""),
    ("site:types-at-the-top-only", 14, "sends_files_with_their_types", "Content-Type is \"application/octet-stream\", not \"text/css\""),
    ("site:nosniff-for-some", 14, "sends_files_with_their_types", "the answer has no X-Content-Type-Options"),
    ("site:lets-browsers-guess", 14, "sends_files_with_their_types", "the answer has no X-Content-Type-Options"),
    ("site:needs-an-index", 14, "a_folder_has_a_page", "the status is 404, not 200"),
    ("site:lists-everything", 14, "a_folder_has_a_page", "the status is 200, not 404 or 403"),
    ("site:never-redirects", 14, "a_folder_without_its_slash_is_redirected", "the status is 200, not 301"),
    ("site:loses-the-query", 14, "a_folder_without_its_slash_is_redirected", "Location is \"/sub/\", not \"/sub/?a=b&c\""),
    ("site:redirects-to-the-decoded-path", 14, "a_folder_without_its_slash_is_redirected", "Location is \"/two words/\", not \"/two%20words/\""),
    ("site:merges-slashes", 14, "a_folder_without_its_slash_is_redirected", "Location is \"//sub/\", which leads off this site"),
    ("site:joins-blindly", 14, "no_name_leads_out_of_the_site", "the status is 200, not 404"),
    ("site:shows-hidden-names", 14, "no_name_leads_out_of_the_site", "the status is 200, not 404"),
    ("site:lists-outside", 14, "no_name_leads_out_of_the_site", "the status is 200, not 404"),
    ("site:redirects-outside", 14, "no_name_leads_out_of_the_site", "the status is 301, not 404"),
    ("site:redirects-to-hidden-folders", 14, "no_name_leads_out_of_the_site", "the status is 301, not 404"),
    ("site:waits-for-pipes", 14, "no_name_leads_out_of_the_site", "no answer within 5 seconds"),
    ("site:any-well-known", 14, "no_name_leads_out_of_the_site", "the status is 200, not 404"),
    ("site:well-known-hides-nothing", 14, "no_name_leads_out_of_the_site", "the status is 200, not 404"),
    ("site:well-known-by-its-beginning", 14, "no_name_leads_out_of_the_site", "the status is 200, not 404"),
    ("site:files-are-folders", 14, "no_name_leads_out_of_the_site", "the status is 200, not 404"),
    ("site:decodes-before-it-splits", 14, "no_name_leads_out_of_the_site", "the status is 200, not 404"),
    ("site:zero-bytes-are-errors", 14, "no_name_leads_out_of_the_site", "the status is 500, not 404"),
    ("site:hides-well-known", 14, "no_name_leads_out_of_the_site", "the status is 404, not 200"),
    ("site:missing-is-200", 14, "a_missing_page_has_a_page", "the status is 200, not 404"),
    ("site:has-no-page-for-posts", 14, "a_missing_page_has_a_page", "the body is"),
    ("site:has-no-page-for-404", 14, "a_missing_page_has_a_page", "Content-Type is \"text/plain\", not \"text/html\""),
    ("site:links-without-escapes", 14, "lists_folders_when_asked", "no link of the page leads to the file"),
    ("site:lists-without-escapes", 14, "lists_folders_when_asked", "the name <b>.txt is in the page as it is"),
    ("site:title-without-escapes", 14, "lists_folders_when_asked", "the name <i> is in the page as it is"),
    ("site:lists-utf-8-only", 14, "lists_folders_when_asked", "the status is 500, not 200"),
    ("site:never-lists-the-root", 14, "lists_folders_when_asked", "no link of the page leads to the folder /folder/"),
    ("site:plus-is-a-space", 14, "lists_folders_when_asked", "the status is 404, not 200"),
    ("site:lists-hidden-names", 14, "lists_folders_when_asked", "the page lists .hidden"),
    ("site:compresses-everything", 14, "compresses_text_and_nothing_else", "the body is compressed (gzip)"),
    ("site:ignores-weights", 14, "compresses_text_and_nothing_else", "the body is compressed (gzip)"),
    ("site:compresses-films", 14, "compresses_text_and_nothing_else", "the body is compressed (gzip)"),
    ("site:wants-newer-packed-files", 14, "compresses_text_and_nothing_else", "the body"),
    ("site:compares-whole-seconds", 14, "compresses_text_and_nothing_else", "the body"),
    ("site:packs-from-anywhere", 14, "compresses_text_and_nothing_else", "the body"),
    ("site:ignores-packed-files", 14, "compresses_text_and_nothing_else", "the body"),
    ("site:packed-files-are-gzip", 14, "compresses_text_and_nothing_else", "Content-Type is \"application/gzip\", not \"text/javascript\""),
    ("site:varies-when-compressed-only", 14, "compresses_text_and_nothing_else", "the answer has no Vary"),
    ("site:packed-files-do-not-vary", 14, "compresses_text_and_nothing_else", "the answer has no Vary"),
    ("site:head-is-never-compressed", 14, "knows_what_a_page_allows", "Content-Length is 4000, the length of the plain text"),
    ("site:deletes-nothing", 14, "knows_what_a_page_allows", "the status is 200, not 405"),
    ("site:options-for-everything", 14, "knows_what_a_page_allows", "the status is 200, not 404"),
    ("site:redirects-posts", 14, "knows_what_a_page_allows", "the status is 301, not 405"),
    ("site:answers-posts", 14, "knows_what_a_page_allows", "the status is 200, not 405"),
    ("site:sends-stale-packed-files", 14, "compresses_text_and_nothing_else", "the body"),
    ("caching:no-tags", 15, "gives_files_validators", "the answer has no ETag"),
    ("caching:tag-without-quotes", 15, "gives_files_validators", "which is no strong entity tag in quotes"),
    ("caching:weak-tags", 15, "gives_files_validators", "which is no strong entity tag in quotes"),
    ("caching:dates-are-now", 15, "gives_files_validators", "Last-Modified is"),
    ("caching:no-tags-for-head", 15, "gives_files_validators", "the answer has no ETag"),
    ("caching:tag-of-whole-seconds", 15, "gives_files_validators", "the status is 304, not 200"),
    ("caching:tag-of-the-time", 15, "gives_files_validators", "the status is 304, not 200"),
    ("caching:tag-of-the-length", 15, "gives_files_validators", "the status is 304, not 200"),
    ("caching:dates-in-the-future", 15, "gives_files_validators", "which is in the future"),
    ("caching:one-tag-for-two-codings", 15, "a_coding_has_a_tag_of_its_own", "the status is 304, not 200"),
    ("caching:packed-files-have-the-tag-of-the-plain", 15, "a_coding_has_a_tag_of_its_own", "the status is 304, not 200"),
    ("caching:ignores-conditions", 15, "answers_304_for_what_the_client_has", "the status is 200, not 304"),
    ("caching:compares-the-whole-header", 15, "answers_304_for_what_the_client_has", "the status is 200, not 304"),
    ("caching:splits-at-commas", 15, "answers_304_for_what_the_client_has", "the status is 304, not 200"),
    ("caching:takes-quoted-stars", 15, "answers_304_for_what_the_client_has", "the status is 304, not 200"),
    ("caching:reads-the-first-line", 15, "answers_304_for_what_the_client_has", "the status is 200, not 304"),
    ("caching:anything-is-unmodified", 15, "answers_304_for_what_the_client_has", "the status is 304, not 404"),
    ("caching:if-none-match-wants-strong-tags", 15, "answers_304_for_what_the_client_has", "the status is 200, not 304"),
    ("caching:knows-no-star", 15, "answers_304_for_what_the_client_has", "the status is 200, not 304"),
    ("caching:searches-for-the-tag", 15, "answers_304_for_what_the_client_has", "the status is 304, not 200"),
    ("caching:compares-for-equality", 15, "compares_dates", "the status is 200, not 304"),
    ("caching:counts-fractions", 15, "compares_dates", "the status is 200, not 304"),
    ("caching:refuses-the-same-date", 15, "compares_dates", "the status is 412, not 200"),
    ("caching:knows-one-form-of-dates", 15, "compares_dates", "the status is 200, not 412"),
    ("caching:bad-dates-are-very-old", 15, "compares_dates", "the status is 412, not 200"),
    ("caching:prefers-dates", 15, "refuses_when_a_precondition_fails", "the status is 304, not 200"),
    ("caching:begins-with-if-none-match", 15, "refuses_when_a_precondition_fails", "the status is 304, not 412"),
    ("caching:minds-both", 15, "refuses_when_a_precondition_fails", "the status is 412, not 200"),
    ("caching:304-has-length-0", 15, "a_304_has_what_a_cache_needs", "Content-Length is 0, and the file has 620 bytes"),
    ("caching:304-says-no-cache", 15, "a_304_has_what_a_cache_needs", "Cache-Control is \"no-cache\", not \"max-age=60\""),
    ("caching:304-without-vary", 15, "a_304_has_what_a_cache_needs", "the answer has no Vary"),
    ("caching:304-without-a-tag", 15, "a_304_has_what_a_cache_needs", "the answer has no ETag"),
    ("caching:ignores-preconditions", 15, "refuses_when_a_precondition_fails", "the status is 200, not 412"),
    ("caching:if-match-takes-weak-tags", 15, "refuses_when_a_precondition_fails", "the status is 200, not 412"),
    ("caching:stores-in-any-case", 15, "changes_only_what_the_client_has_seen", "the status is 201, not 412"),
    ("caching:if-none-match-is-a-star", 15, "changes_only_what_the_client_has_seen", "the status is 201, not 412"),
    ("caching:uploads-ignore-dates", 15, "changes_only_what_the_client_has_seen", "the status is 201, not 412"),
    ("caching:a-star-is-anything", 15, "changes_only_what_the_client_has_seen", "the status is 201, not 412"),
    ("caching:knows-plain-tags-only", 15, "changes_only_what_the_client_has_seen", "the status is 412, not 200"),
    ("caching:uploads-mind-if-modified-since", 15, "changes_only_what_the_client_has_seen", "the status is 412, not 200"),
    ("caching:takes-the-body-for-a-request", 15, "changes_only_what_the_client_has_seen", "your server sent two answers to one request"),
    ("caching:says-nothing-about-caching", 15, "says_how_long_a_copy_may_be_used", "the answer has no Cache-Control"),
    ("caching:says-nothing-below-files", 15, "says_how_long_a_copy_may_be_used", "the answer has no Cache-Control"),
    ("caching:immutable-for-no-time", 15, "says_how_long_a_copy_may_be_used", "without a long max-age"),
    ("caching:words-are-hashes", 15, "says_how_long_a_copy_may_be_used", "Cache-Control"),
    ("caching:takes-short-hashes", 15, "says_how_long_a_copy_may_be_used", "Cache-Control"),
    ("caching:ignores-max-age", 15, "says_how_long_a_copy_may_be_used", "Cache-Control is"),
    ("caching:hashes-at-the-beginning", 15, "says_how_long_a_copy_may_be_used", "Cache-Control"),
    ("caching:dates-are-hashes", 15, "says_how_long_a_copy_may_be_used", "Cache-Control"),
    ("caching:nothing-is-immutable", 15, "says_how_long_a_copy_may_be_used", "without immutable"),
    ("ranges:ignores-ranges", 16, "sends_a_part_of_a_file", "the status is 200, not 206"),
    ("ranges:says-200", 16, "sends_a_part_of_a_file", "the status is 200, not 206"),
    ("ranges:leaves-out-the-last-byte", 16, "sends_a_part_of_a_file", "the body"),
    ("ranges:last-bytes-from-the-start", 16, "sends_a_part_of_a_file", "Content-Range is"),
    ("ranges:length-of-the-part", 16, "sends_a_part_of_a_file", "Content-Range is \"bytes 2-4/3\", not \"bytes 2-4/10\""),
    ("ranges:hides-that-it-can", 16, "sends_a_part_of_a_file", "the answer has no Accept-Ranges"),
    ("ranges:ranges-before-conditions", 16, "sends_a_part_of_a_file", "the answer has no ETag"),
    ("ranges:cuts-head", 16, "refuses_what_is_beyond_the_end", "the status is 416, not 200"),
    ("ranges:cuts-the-404-page", 16, "refuses_what_is_beyond_the_end", "the status is 206, not 404"),
    ("ranges:206-past-the-end", 16, "refuses_what_is_beyond_the_end", "the status is 206, not 416"),
    ("ranges:416-without-the-length", 16, "refuses_what_is_beyond_the_end", "the answer has no Content-Range"),
    ("ranges:searches-for-bytes", 16, "ignores_what_it_does_not_understand", "the status is 206, not 200"),
    ("ranges:stops-after-the-digits", 16, "ignores_what_it_does_not_understand", "the status is 206, not 200 or 416"),
    ("ranges:knows-underscores", 16, "ignores_what_it_does_not_understand", "the status is 206, not 200 or 416"),
    ("ranges:large-numbers-are-errors", 16, "ignores_what_it_does_not_understand", "the status is 500"),
    ("ranges:a-range-makes-head-plain", 16, "ignores_what_it_does_not_understand", "ETag is"),
    ("ranges:takes-signs", 16, "ignores_what_it_does_not_understand", "the status is 206, not 200"),
    ("ranges:any-unit", 16, "ignores_what_it_does_not_understand", "the status is 206, not 200"),
    ("ranges:refuses-several", 16, "ignores_what_it_does_not_understand", "the status is 416, not 200"),
    ("ranges:takes-the-first-range", 16, "ignores_what_it_does_not_understand", "the status is 206, not 200"),
    ("ranges:cuts-head", 16, "ignores_what_it_does_not_understand", "the status is 206, not 200"),
    ("ranges:cuts-the-404-page", 16, "ignores_what_it_does_not_understand", "the status is 206, not 404"),
    ("ranges:compresses-parts", 16, "a_part_is_never_compressed", "the status is 416, not 206"),
    ("ranges:compresses-below-files", 16, "a_part_is_never_compressed", "the status is 416, not 206"),
    ("ranges:if-range-forgets-the-coding", 16, "a_part_must_fit_to_what_the_client_has", "the status is 206, not 200"),
    ("ranges:if-range-needs-no-quotes", 16, "a_part_must_fit_to_what_the_client_has", "the status is 206, not 200"),
    ("ranges:if-range-is-a-list", 16, "a_part_must_fit_to_what_the_client_has", "the status is 206, not 200"),
    ("ranges:416-before-if-range", 16, "a_part_must_fit_to_what_the_client_has", "the status is 416, not 200"),
    ("ranges:counts-in-32-bits", 16, "finds_the_end_of_a_large_file", "Content-Range is"),
    ("ranges:ignores-if-range", 16, "a_part_must_fit_to_what_the_client_has", "the status is 206, not 200"),
    ("ranges:weak-if-range", 16, "a_part_must_fit_to_what_the_client_has", "the status is 206, not 200"),
    ("ranges:any-date-will-do", 16, "a_part_must_fit_to_what_the_client_has", "the status is 206, not 200"),
    ("ranges:ranges-before-conditions", 16, "a_part_must_fit_to_what_the_client_has", "the status is"),
    ("routing:does-not-decode", 17, "parameters_are_parts_of_the_path", "the JSON is"),
    ("routing:decodes-twice", 17, "parameters_are_parts_of_the_path", "the status is 400, not 200"),
    ("routing:decodes-paths-as-forms", 17, "parameters_are_parts_of_the_path", "the JSON is"),
    ("routing:decodes-before-it-splits", 17, "parameters_are_parts_of_the_path", "the status is 404, not 200"),
    ("routing:json-without-escapes", 17, "parameters_are_parts_of_the_path", "the body is no JSON"),
    ("routing:json-with-raw-control-characters", 17, "parameters_are_parts_of_the_path", "the body is no JSON"),
    ("routing:json-as-text", 17, "parameters_are_parts_of_the_path", "Content-Type is \"text/plain\", not \"application/json\""),
    ("routing:ids-are-numbers", 17, "parameters_are_parts_of_the_path", "the JSON is {\"user_id\":10}, not {\"user_id\":\"10\"}"),
    ("routing:parameters-may-be-empty", 17, "parameters_are_parts_of_the_path", "the status is 200, not 404"),
    ("routing:parameters-take-slashes", 17, "parameters_are_parts_of_the_path", "the JSON is"),
    ("routing:the-beginning-of-a-path-will-do", 17, "parameters_are_parts_of_the_path", "the JSON is"),
    ("routing:a-beginning-will-do", 17, "parameters_are_parts_of_the_path", "the status is 200, not 404"),
    ("routing:keeps-the-query", 17, "parameters_are_parts_of_the_path", "the status is 404, not 200"),
    ("routing:signs-are-digits", 17, "the_query_has_names_and_values", "a sign was taken for a hexadecimal digit"),
    ("routing:a-plus-is-a-plus", 17, "the_query_has_names_and_values", "the body is \"Echo: two+words\", not \"Echo: two words\""),
    ("routing:decodes-before-it-splits-the-query", 17, "the_query_has_names_and_values", "the body"),
    ("routing:splits-at-every-equals-sign", 17, "the_query_has_names_and_values", "the status is 400, not 200"),
    ("routing:searches-for-the-name", 17, "the_query_has_names_and_values", "the body"),
    ("routing:empty-is-missing", 17, "the_query_has_names_and_values", "the status is 400, not 200"),
    ("routing:missing-is-empty", 17, "the_query_has_names_and_values", "the status is 200, not 400"),
    ("routing:takes-the-last-value", 17, "the_query_has_names_and_values", "the body is \"Echo: second\", not \"Echo: first\""),
    ("routing:names-ignore-case", 17, "the_query_has_names_and_values", "the status is 200, not 400"),
    ("routing:bad-escapes-are-errors", 17, "the_query_has_names_and_values", "the status is 500"),
    ("routing:the-first-one-wins", 17, "the_more_exact_pattern_answers", "the body"),
    ("routing:never-goes-back", 17, "the_more_exact_pattern_answers", "the status is 404, not 200"),
    ("routing:compares-names-with-escapes", 17, "the_more_exact_pattern_answers", "the body"),
    ("routing:any-method-will-do", 17, "a_path_knows_its_methods", "the status is 200, not 405"),
    ("routing:404-for-other-methods", 17, "a_path_knows_its_methods", "the status is 404, not 405"),
    ("routing:405-without-allow", 17, "a_path_knows_its_methods", "the answer has no Allow"),
    ("routing:forgets-head", 17, "a_path_knows_its_methods", "Allow"),
    ("routing:allows-the-first-only", 17, "a_path_knows_its_methods", "Allow"),
    ("routing:405-for-everything", 17, "a_path_knows_its_methods", "the status is 405, not 404"),
    ("routing:head-is-another-method", 17, "a_path_knows_its_methods", "the status is 405, not 200"),
    ("routing:options-are-not-allowed", 17, "a_path_knows_its_methods", "the status is 405"),
    ("routing:ignores-slashes-at-the-end", 17, "a_slash_at_the_end_makes_another_path", "the status is 200, not 308"),
    ("routing:never-redirects", 17, "a_slash_at_the_end_makes_another_path", "the status is 404, not 308"),
    ("routing:redirects-without-the-query", 17, "a_slash_at_the_end_makes_another_path", "Location is"),
    ("routing:redirects-to-the-decoded-path", 17, "a_slash_at_the_end_makes_another_path", "Location is"),
    ("routing:redirects-with-301", 17, "a_slash_at_the_end_makes_another_path", "the status is 301, not 308"),
    ("routing:redirects-whatever-comes", 17, "a_slash_at_the_end_makes_another_path", "which leads off this site"),
    ("routing:text-that-is-no-text-is-an-error", 17, "what_cannot_be_decoded_is_refused", "the status is 500"),
    ("layers:no-ids", 18, "every_answer_has_an_id", "the answer has no X-Request-Id"),
    ("layers:one-id-for-all", 18, "every_answer_has_an_id", "X-Request-Id is 1, as for an earlier request"),
    ("layers:ids-with-spaces", 18, "every_answer_has_an_id", "X-Request-Id is \"request"),
    ("layers:ids-for-routes-only", 18, "every_answer_has_an_id", "the answer has no X-Request-Id"),
    ("layers:no-ids-for-failures", 18, "every_answer_has_an_id", "the answer has no X-Request-Id"),
    ("layers:takes-ids-over", 18, "every_answer_has_an_id", "the answer has the id that the client sent"),
    ("layers:failures-end-the-server", 18, "a_handler_that_fails_gets_one_answer", "your server"),
    ("layers:failures-are-forever", 18, "a_handler_that_fails_gets_one_answer", "the status is 500, not 200"),
    ("layers:shows-what-failed", 18, "a_handler_that_fails_gets_one_answer", "the body contains \"panicked\""),
    ("layers:no-lines", 18, "writes_a_line_for_each_request", "your server wrote 0 lines"),
    ("layers:lines-for-routes-only", 18, "writes_a_line_for_each_request", "your server wrote 0 lines"),
    ("layers:another-time-format", 18, "writes_a_line_for_each_request", "the time in this line is"),
    ("layers:leaves-the-query-out", 18, "writes_a_line_for_each_request", "the request line in this line is"),
    ("layers:logs-200", 18, "writes_a_line_for_each_request", "the status in this line is \"200\", not \"404\""),
    ("layers:counts-no-bytes", 18, "writes_a_line_for_each_request", "the number of bytes in this line is \"0\", not \"6\""),
    ("layers:common-instead-of-combined", 18, "writes_a_line_for_each_request", "this line does not have nine fields"),
    ("layers:json-in-quotes-only", 18, "writes_objects_for_programs", "this line is no JSON"),
    ("layers:decodes-as-latin-1", 18, "writes_objects_for_programs", "\"user_agent\" is"),
    ("layers:status-as-text", 18, "writes_objects_for_programs", "\"status\" is \"200\", not 200"),
    ("layers:time-in-seconds", 18, "writes_objects_for_programs", "\"time\" is"),
    ("layers:duration-as-text", 18, "writes_objects_for_programs", "\"duration_ms\" is"),
    ("layers:another-id-in-the-log", 18, "writes_objects_for_programs", "\"request_id\" is \"0\", not \"request-1\""),
    ("layers:escapes-nothing", 18, "no_request_forges_a_line", "this line can be read in two ways"),
    ("layers:escapes-quotes-only", 18, "no_request_forges_a_line", "this line can be read in two ways"),
    ("layers:shows-all-letters", 18, "no_request_forges_a_line", "the log has U+0085 as it is"),
    ("layers:json-in-quotes-only", 18, "no_request_forges_a_line", "this line can be read in two ways"),
    ("layers:writes-two-lines", 18, "writes_a_line_for_each_request", "your server wrote 2 lines about 1 requests"),
    ("layers:logs-all-headers", 18, "no_request_forges_a_line", "the log has the value of Authorization or Cookie"),
    ("layers:reflects-origins", 18, "other_sites_may_read_what_they_are_allowed_to", "the answer has Access-Control-Allow-Origin: http://b.example"),
    ("layers:compares-beginnings", 18, "other_sites_may_read_what_they_are_allowed_to", "the answer has Access-Control-Allow-Origin: http://a.example.evil"),
    ("layers:compares-ends", 18, "other_sites_may_read_what_they_are_allowed_to", "the answer has Access-Control-Allow-Origin"),
    ("layers:takes-the-origin-for-a-pattern", 18, "other_sites_may_read_what_they_are_allowed_to", "the answer has Access-Control-Allow-Origin: http://a.exampl"),
    ("layers:ignores-ports", 18, "other_sites_may_read_what_they_are_allowed_to", "the answer has Access-Control-Allow-Origin: http://a.example:81"),
    ("layers:allows-null", 18, "other_sites_may_read_what_they_are_allowed_to", "the answer has Access-Control-Allow-Origin: null"),
    ("layers:no-vary", 18, "other_sites_may_read_what_they_are_allowed_to", "Vary is"),
    ("layers:varies-when-allowed-only", 18, "other_sites_may_read_what_they_are_allowed_to", "Vary is"),
    ("layers:no-cors-on-errors", 18, "other_sites_may_read_what_they_are_allowed_to", "the answer has no Access-Control-Allow-Origin"),
    ("layers:allows-everyone", 18, "other_sites_may_read_what_they_are_allowed_to", "Access-Control-Allow-Origin is \"*\", not \"http://a.example\""),
    ("layers:preflights-go-to-the-routes", 18, "a_preflight_is_answered_first", "Access-Control-Allow-Methods is \"\", without POST"),
    ("layers:preflights-for-all", 18, "a_preflight_is_answered_first", "the answer has Access-Control-Allow-Methods"),
    ("layers:allows-get-only", 18, "a_preflight_is_answered_first", "Access-Control-Allow-Methods is \"GET\", without POST"),
    ("layers:forgets-headers", 18, "a_preflight_is_answered_first", "Access-Control-Allow-Headers is \"\", without Content-Type"),
    ("layers:varies-by-the-origin-only", 18, "a_preflight_is_answered_first", "Vary is \"Origin\", without Access-Control-Request-Method"),
    ("layers:every-options-is-a-preflight", 18, "a_preflight_is_answered_first", "the answer has no Allow"),
    ("layers:no-limit", 18, "whoever_asks_too_often_has_to_wait", "your server answers more than five requests in a second"),
    ("layers:says-503", 18, "whoever_asks_too_often_has_to_wait", "the status is 503, not 200 or 429"),
    ("layers:does-not-say-when", 18, "whoever_asks_too_often_has_to_wait", "the answer has no Retry-After"),
    ("layers:says-now", 18, "whoever_asks_too_often_has_to_wait", "Retry-After is \"0\""),
    ("layers:limits-before-all-else", 18, "whoever_asks_too_often_has_to_wait", "the answer has no X-Request-Id"),
    ("layers:counts-health", 18, "whoever_asks_too_often_has_to_wait", "the status is 429, not 200"),
    ("layers:never-refills", 18, "whoever_asks_too_often_has_to_wait", "the status is 429, not 200"),
    ("layers:one-bucket-for-all", 18, "whoever_asks_too_often_has_to_wait", "the status is 429, not 200"),
    ("records:adds-with-200", 19, "keeps_what_it_is_given", "the status is 200, not 201"),
    ("records:does-not-say-where", 19, "keeps_what_it_is_given", "the answer has no Location"),
    ("records:one-id-for-all", 19, "keeps_what_it_is_given", "the id is 1, after 1"),
    ("records:answers-without-the-id", 19, "keeps_what_it_is_given", "\"id\" is missing, not"),
    ("records:shows-the-data-alone", 19, "keeps_what_it_is_given", "\"data\" is missing"),
    ("records:numbers-are-doubles", 19, "keeps_what_it_is_given", "\"data\" is"),
    ("records:has-no-tags", 19, "keeps_what_it_is_given", "the answer has no ETag"),
    ("records:bad-ids-are-errors", 19, "keeps_what_it_is_given", "the status is 500, not 404"),
    ("records:problems-as-text", 19, "keeps_what_it_is_given", "Content-Type is \"text/plain\", not \"application/problem+json\""),
    ("records:problems-as-plain-json", 19, "keeps_what_it_is_given", "Content-Type is \"application/json\", not \"application/problem+json\""),
    ("records:problems-with-another-status", 19, "keeps_what_it_is_given", "without a title, or with another status"),
    ("records:takes-the-last-field", 19, "takes_the_fields_of_a_form", "\"data\" is"),
    ("records:fields-become-numbers", 19, "takes_the_fields_of_a_form", "\"data\" is"),
    ("records:trims-fields", 19, "takes_the_fields_of_a_form", "\"data\" is"),
    ("records:bytes-become-text", 19, "takes_the_fields_of_a_form", "\"data\" is"),
    ("records:boundaries-need-no-line-end", 19, "takes_the_fields_of_a_form", "\"data\" is"),
    ("records:forms-need-no-end", 19, "takes_the_fields_of_a_form", "the status is 201, not 400"),
    ("records:lists-without-ids", 19, "lists_page_by_page", "the JSON is"),
    ("records:ignores-the-page", 19, "lists_page_by_page", "the JSON is"),
    ("records:bad-limits-are-ignored", 19, "lists_page_by_page", "the status is 200, not 400"),
    ("records:always-has-a-next-page", 19, "lists_page_by_page", "the answer has Link"),
    ("records:never-has-a-next-page", 19, "lists_page_by_page", "the answer has no Link"),
    ("records:pages-begin-at-a-place", 19, "lists_page_by_page", "the JSON is"),
    ("records:patch-replaces", 19, "changes_a_record", "\"data\" is"),
    ("records:put-merges", 19, "changes_a_record", "\"data\" is"),
    ("records:merges-the-top-only", 19, "changes_a_record", "\"data\" is"),
    ("records:null-is-a-value", 19, "changes_a_record", "\"data\" is"),
    ("records:joins-lists", 19, "changes_a_record", "\"data\" is"),
    ("records:keeps-null-in-what-is-new", 19, "changes_a_record", "\"data\" is"),
    ("records:patches-have-one-type", 19, "changes_a_record", "the status is 415, not 200"),
    ("records:conditions-before-existence", 19, "changes_a_record", "the status is 412, not 404"),
    ("records:uses-ids-again", 19, "changes_a_record", "the new record has the id 1"),
    ("records:sends-what-the-client-has", 19, "only_who_knows_the_version_changes_it", "the status is 200, not 304"),
    ("records:ignores-if-match", 19, "only_who_knows_the_version_changes_it", "the status is 200, not 412"),
    ("records:tags-of-the-content", 19, "only_who_knows_the_version_changes_it", "as at the beginning"),
    ("records:compares-before-it-replaces", 19, "only_who_knows_the_version_changes_it", "more than one of fifty clients got 200"),
    ("records:never-requires-a-version", 19, "only_who_knows_the_version_changes_it", "the status is 200, not 428"),
    ("records:any-type-will-do", 19, "refuses_what_it_cannot_keep", "the status is"),
    ("records:no-type-is-json", 19, "refuses_what_it_cannot_keep", "the status is 201, not 415"),
    ("records:json-somewhere-will-do", 19, "refuses_what_it_cannot_keep", "the status is 201, not 415"),
    ("records:does-not-say-what-it-takes", 19, "refuses_what_it_cannot_keep", "the answer has no Accept"),
    ("records:parses-by-hand", 19, "refuses_what_it_cannot_keep", "the status is 201, not 400"),
    ("records:takes-names-twice", 19, "refuses_what_it_cannot_keep", "the status is 201, not 400"),
    ("records:takes-infinity", 19, "refuses_what_it_cannot_keep", "the status is 201, not 400"),
    ("records:does-not-say-where-json-is-wrong", 19, "refuses_what_it_cannot_keep", "without the line"),
    ("records:takes-any-json", 19, "refuses_what_it_cannot_keep", "the status is 201, not 422"),
    ("records:says-400-to-lists", 19, "refuses_what_it_cannot_keep", "the status is 400, not 422"),
    ("records:takes-any-size", 19, "refuses_what_it_cannot_keep", "the status is 201, not 413"),
    ("records:takes-no-forms-with-files", 19, "stores_the_files_of_a_form", "your server answers before the request is complete"),
    ("records:stores-the-first-file-only", 19, "stores_the_files_of_a_form", "the JSON is"),
    ("records:takes-paths-for-names", 19, "stores_the_files_of_a_form", "the"),
    ("records:places-without-escapes", 19, "stores_the_files_of_a_form", "the JSON is"),
    ("records:invents-names", 19, "stores_the_files_of_a_form", "the status is 201, not"),
    ("records:does-not-unpack", 19, "unpacks_compressed_bodies", "the status is 415"),
    ("storing:keeps-it-in-a-buffer", 20, "records_survive_a_restart", "the records are , not"),
    ("storing:forgets-to-write-deletions", 20, "records_survive_a_restart", "the records are"),
    ("storing:ids-begin-after-the-last-record", 20, "records_survive_a_restart", "which was another one"),
    ("storing:revisions-begin-anew", 20, "records_survive_a_restart", "ETag is"),
    ("storing:writes-after-the-answer", 20, "a_hundred_kills_lose_nothing_that_was_answered", "was answered, and is lost"),
    ("storing:rewrites-the-file-in-its-place", 20, "a_hundred_kills_lose_nothing_that_was_answered", ""),
    ("storing:goes-on-after-what-is-torn", 20, "an_end_that_is_missing_is_no_disaster", ""),
    ("storing:skips-what-is-damaged", 20, "a_damaged_file_is_refused", "your server has started, and the records are not what they were"),
    ("storing:stops-where-it-is-damaged", 20, "a_damaged_file_is_refused", "your server has started, and the records are not what they were"),
    ("storing:trusts-what-can-be-parsed", 20, "a_damaged_file_is_refused", "your server has started, and the records are not what they were"),
    ("storing:empties-what-is-damaged", 20, "a_damaged_file_is_refused", "your server has refused the file, and changed it"),
    ("storing:says-nothing-about-damage", 20, "a_damaged_file_is_refused", "your server has ended without a word"),
    ("storing:ends-well-with-damage", 20, "a_damaged_file_is_refused", "your server has ended with the exit code 0"),
    ("storing:starts-with-any-file", 20, "another_file_is_not_touched", "your server has started with a file that is no store"),
    ("storing:never-tidies-up", 20, "the_file_does_not_grow_forever", "the files of the store have"),
    ("storing:goes-on-with-the-old-file", 20, "the_file_does_not_grow_forever", "\"number\" is"),
    ("live:says-text-plain", 21, "watchers_hear_of_each_change", "Content-Type is \"text/plain\", not \"text/event-stream\""),
    ("live:collects-events", 21, "watchers_hear_of_each_change", "no event within 5 seconds"),
    ("live:no-names", 21, "watchers_hear_of_each_change", "the event is \"message\", not \"created\""),
    ("live:no-ids", 21, "watchers_hear_of_each_change", "the id of the event is \"\", which is no number"),
    ("live:ids-of-records", 21, "watchers_hear_of_each_change", "the id of the event is 1, and the one before it had 1"),
    ("live:no-empty-line", 21, "watchers_hear_of_each_change", "no event within 5 seconds"),
    ("live:prints-over-several-lines", 21, "watchers_hear_of_each_change", "the data of the event is no JSON"),
    ("live:sends-the-data-alone", 21, "watchers_hear_of_each_change", "the data of the event is"),
    ("live:says-null-for-deleted", 21, "watchers_hear_of_each_change", "the data of the event is null, not {\"id\":1}"),
    ("live:tells-of-additions-only", 21, "watchers_hear_of_each_change", "the event is \"created\", not \"changed\""),
    ("live:tells-what-was-asked", 21, "watchers_hear_of_each_change", "the data of the event is {\"asked\":true}"),
    ("live:one-queue-for-all", 21, "watchers_hear_of_each_change", "event"),
    ("live:registers-when-it-reads", 21, "a_watcher_misses_nothing_after_the_head", "no event within 5 seconds"),
    ("live:forgets-what-was-missed", 21, "who_comes_back_gets_what_was_missed", "no event within 5 seconds"),
    ("live:sends-the-last-one-again", 21, "who_comes_back_gets_what_was_missed", "the data of the event is"),
    ("live:keeps-ten", 21, "says_so_when_it_cannot_know_what_was_missed", "the event is \"reset\", not \"changed\""),
    ("live:never-resets", 21, "says_so_when_it_cannot_know_what_was_missed", "no event within 5 seconds"),
    ("live:resets-without-data", 21, "says_so_when_it_cannot_know_what_was_missed", "no event within 5 seconds"),
    ("live:resets-without-an-id", 21, "says_so_when_it_cannot_know_what_was_missed", "the event is \"reset\", not \"changed\""),
    ("live:resets-with-everything", 21, "says_so_when_it_cannot_know_what_was_missed", "the data of the event is"),
    ("live:ids-begin-anew", 21, "ids_go_on_after_a_restart", "the event is \"reset\", not \"changed\""),
    ("live:ids-begin-at-what-is-left", 21, "ids_go_on_after_a_restart", "the event is \"reset\", not \"changed\""),
    ("live:has-no-heartbeat", 21, "a_silent_answer_has_comments", "no comment within 5 seconds"),
    ("live:sends-empty-events", 21, "a_silent_answer_has_comments", "no comment within 5 seconds"),
    ("live:waits-for-the-slowest", 21, "a_slow_watcher_delays_nobody", "no answer within 5 seconds"),
    ("live:skips-what-is-forgotten", 21, "a_slow_watcher_delays_nobody", "a change is missing"),
    ("live:lets-everybody-watch", 21, "only_so_many_may_watch", "the status is 200, not 503"),
    ("live:never-forgets-a-watcher", 21, "only_so_many_may_watch", "the status is 503, not 200"),
    ("live:holds-its-watchers", 21, "lets_its_watchers_go_when_it_is_stopped", "the answer does not end within 5 seconds"),
    ("live:breaks-off", 21, "lets_its_watchers_go_when_it_is_stopped", "the answer breaks off"),
    ("live:one-queue-for-all", 22, "thousands_of_changes_reach_all_who_watch", "All of them hear of all"),
    ("looping:reads-once-for-an-event", 22, "a_flood_of_requests_is_no_reason_to_forget_others", "no answer within 5 seconds"),
    ("looping:misses-the-end", 22, "who_has_said_all_is_let_go", "your server does not close the connection"),
    ("looping:accepts-once-for-an-event", 22, "one_slow_reader_delays_nobody", "no answer within 5 seconds"),
    ("looping:forgets-the-rest", 22, "one_slow_reader_delays_nobody", "but the body has"),
    ("looping:waits-until-it-is-taken", 22, "one_slow_reader_delays_nobody", "no answer within 5 seconds"),
    ("looping:waits-in-the-loop", 22, "a_body_in_a_thousand_pieces", "no answer within 5 seconds"),
    ("looping:has-one-deadline-for-all", 22, "everybody_has_a_deadline_of_their_own", "your server does not close the connection"),
    ("looping:asks-again-and-again", 22, "who_waits_does_nothing", "ms of processor in 2 seconds"),
    ("securing:speaks-one-version", 23, "answers_over_tls", "the handshake of TLS fails"),
    ("securing:says-nothing-about-protocols", 23, "agrees_on_the_protocol_inside", "your server chooses nothing"),
    ("securing:prefers-h2", 23, "agrees_on_the_protocol_inside", "your server chooses h2"),
    ("securing:agrees-on-h2", 23, "agrees_on_the_protocol_inside", "agrees with a client that speaks only h2"),
    ("securing:leaves-what-is-decrypted", 23, "carries_all_that_is_said", "no answer within 5 seconds"),
    ("securing:encrypts-without-end", 23, "carries_all_that_is_said", "but the body has"),
    ("securing:leaves-without-a-goodbye", 23, "says_goodbye", "closes the connection without a close_notify"),
    ("securing:keeps-what-is-cut-off", 23, "keeps_nothing_that_is_cut_off", "a part of a body has been stored"),
    ("securing:answers-all-with-tls", 23, "explains_itself_to_plain_http", "does not begin with a status line"),
    ("securing:says-nothing-to-plain-http", 23, "explains_itself_to_plain_http", "without an answer"),
    ("securing:refuses-plain-http-with-a-number", 23, "explains_itself_to_plain_http", "does not say that the address"),
    ("securing:agrees-with-one-at-a-time", 23, "who_does_not_agree_delays_nobody", "does not end within 5 seconds"),
    ("securing:waits-for-a-handshake-forever", 23, "who_does_not_agree_delays_nobody", "does not close the connection"),
    ("securing:is-never-strict", 23, "keeps_clients_on_tls", "has no Strict-Transport-Security"),
    ("securing:is-strict-for-no-time", 23, "keeps_clients_on_tls", "has no max-age"),
    ("securing:is-strict-with-localhost", 23, "keeps_clients_on_tls", "Strict-Transport-Security"),
    ("securing:is-strict-with-addresses", 23, "keeps_clients_on_tls", "Strict-Transport-Security"),
    ("securing:is-strict-without-tls", 23, "keeps_clients_on_tls", "Strict-Transport-Security"),
    ("securing:redirects-with-302", 23, "keeps_clients_on_tls", "302"),
    ("securing:redirects-to-whoever-is-named", 23, "keeps_clients_on_tls", "evil.example"),
    ("securing:redirects-without-the-query", 23, "keeps_clients_on_tls", "Location"),
    ("securing:redirects-to-the-front-page", 23, "keeps_clients_on_tls", "Location"),
    ("machines:keeps-records-to-itself", 24, "machines_have_the_same_records", "the status is 404, not 200"),
    ("machines:makes-its-own-tags", 24, "machines_have_the_same_records", "on the other"),
    ("machines:takes-the-blame", 24, "machines_have_the_same_records", "the status is 500, not 413"),
    ("machines:looks-before-it-changes", 24, "one_of_two_wins", "2 of the two changes were made"),
    ("machines:watches-nobody", 24, "tells_of_changes_on_other_machines", "no event within 5 seconds"),
    ("machines:forgets-where-it-was", 24, "tells_of_changes_on_other_machines", "no event within 5 seconds"),
    ("machines:shows-what-it-remembers", 24, "says_when_the_store_cannot_be_reached", "the status is 200, not 503"),
    ("machines:says-500", 24, "says_when_the_store_cannot_be_reached", "the status is 500, not 503"),
    ("machines:does-not-say-when", 24, "says_when_the_store_cannot_be_reached", "the answer has no Retry-After"),
    ("machines:waits-for-the-store", 24, "says_when_the_store_cannot_be_reached", "no answer within 5 seconds"),
    ("machines:knows-one-member", 24, "goes_to_another_member", "the status is 503, not 200"),
    ("machines:takes-the-first-answer", 24, "goes_to_another_member", "the status is 503, not 20"),
    ("machines:adds-again", 24, "a_change_happens_once", "there are 2 such records now"),
    ("machines:takes-unknown-for-unsent", 24, "a_change_happens_once", "there are 2 such records now"),
    ("machines:is-always-ready", 24, "leaves_before_it_stops", "the status is 200, not 503"),
    ("machines:stops-at-once", 24, "leaves_before_it_stops", "your server"),
    ("securing:redirects-challenges", 23, "keeps_clients_on_tls", "the status is 308, not 200"),
];

/// Reports that are not kept, because they depend on timing: the answer may arrive before the reset or not, and a
/// slow client sends more bytes or fewer.
const UNSTEADY: [&str; 32] = [
    "24-waits-for-the-store.says_when_the_store_cannot_be_reached",
    "24-takes-the-first-answer.goes_to_another_member",
    "24-makes-its-own-tags.machines_have_the_same_records",
    "24-stops-at-once.leaves_before_it_stops",
    "23-encrypts-without-end.carries_all_that_is_said",
    "18-another-time-format.writes_a_line_for_each_request",
    "22-one-queue-for-all.thousands_of_changes_reach_all_who_watch",
    "22-reads-once-for-an-event.a_flood_of_requests_is_no_reason_to_forget_others",
    "21-waits-for-the-slowest.a_slow_watcher_delays_nobody",
    "22-waits-in-the-loop.a_body_in_a_thousand_pieces",
    "22-forgets-the-rest.one_slow_reader_delays_nobody",
    "22-asks-again-and-again.who_waits_does_nothing",
    "21-resets-with-everything.says_so_when_it_cannot_know_what_was_missed",
    "21-sends-empty-events.a_silent_answer_has_comments",
    "21-skips-what-is-forgotten.a_slow_watcher_delays_nobody",
    "21-one-queue-for-all.watchers_hear_of_each_change",
    "02-answers-unread.takes_a_long_request",
    "07-loads-whole-files.sends_a_large_file_without_loading_it",
    "06-one-variable-for-all.everyone_gets_their_own_answer",
    "12-style-keep-alive.times_out_slow_requests",
    "12-limits-each-read.times_out_slow_requests",
    "12-cuts-steady-bodies.times_out_slow_bodies",
    "15-dates-are-now.gives_files_validators",
    "13-counts-too-fast.sends_what_there_is_as_it_comes",
    "18-failures-end-the-server.a_handler_that_fails_gets_one_answer",
    "18-duration-as-text.writes_objects_for_programs",
    "18-json-in-quotes-only.writes_objects_for_programs",
    "19-takes-no-forms-with-files.stores_the_files_of_a_form",
    "20-goes-on-with-the-old-file.the_file_does_not_grow_forever",
    "20-writes-after-the-answer.a_hundred_kills_lose_nothing_that_was_answered",
    "20-rewrites-the-file-in-its-place.a_hundred_kills_lose_nothing_that_was_answered",
    "18-time-in-seconds.writes_objects_for_programs",
];

/// Correct servers in other styles.
const STYLES: [&str; 11] = [
    "style-slow-start",
    "style-two-ports",
    "style-plain",
    "style-bare",
    "style-chunked",
    "style-keep-alive",
    "style-extra-headers",
    "style-reversed",
    "style-lower-case",
    "style-other-phrases",
    "style-charset",
];

/// The last stage that a style is tested with.
fn last_stage(style: &str) -> usize {
    match style {
        "style-slow-start" | "style-two-ports" => 1, // the style is about how the server starts
        "style-keep-alive" => 10,
        _ => 9,
    }
}

/// Correct servers for the later stages, which choose differently where HTTP leaves a choice, and the checks that
/// they must pass: one check, or all checks of the stage.
const CHOICES: &[(&str, usize, Option<&str>)] = &[
    ("styles:open-refusals", 10, None),
    ("styles:open-refusals", 11, None),
    ("styles:empty-uploads", 11, None),
    ("styles:knows-four-methods", 11, None),
    ("styles:says-400", 11, None),
    ("styles:says-400", 12, Some("limits_what_it_reads")),
    ("styles:says-400", 12, Some("times_out_slow_requests")),
    ("styles:says-400", 12, Some("times_out_slow_bodies")),
    ("styles:says-400", 13, None),
    ("styles:replaces-with-204", 13, None),
    ("styles:known-length", 13, None),
    ("ranges:416-for-nonsense", 16, None),
    ("storing:style-database", 20, None),
    ("live:style-own-words", 21, None),
    ("chunks:many-digits-are-too-large", 13, Some("refuses_chunks_that_can_be_read_in_two_ways")),
];

/// How many servers are tested at the same time. Most of the time, they wait.
const AT_A_TIME: usize = 16;

/// The program that runs the checks of a stage.
fn checks(stage: usize) -> PathBuf {
    check_program(&format!("stage{stage:02}")).unwrap_or_else(|said| panic!("{said}"))
}

/// The directory with the programs of the wrong servers.
fn wrong_servers() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = cargo(&["build", "--package", "wrong"]);
        built.unwrap_or_else(|said| panic!("{said}"));
        checks(1).ancestors().nth(2).expect("the directory of the programs").to_owned()
    })
}

/// The command that starts a wrong server: one of those in tests/wrong/, or an earlier stage, which lacks what is
/// new.
fn command(variant: &str) -> String {
    let programs = wrong_servers().display();
    if let Some(style) = variant.strip_prefix("styles:") {
        format!("STYLE={style} '{programs}/other-styles'")
    } else if let Some((program, mistake)) = variant.split_once(':') {
        format!("MISTAKE={mistake} '{programs}/wrong-{program}'")
    } else if variant.starts_with("stage") {
        let own = own_command(variant).unwrap_or_else(|failure| panic!("{failure:?}"));
        format!("'{}'", own.get_program().to_string_lossy())
    } else {
        format!("'{programs}/wrong' {variant}")
    }
}

/// Runs the checks of a stage, or one of them, on a wrong server. Returns the output as an error if they fail.
fn run(variant: &str, stage: usize, check: Option<&str>) -> Result<(), String> {
    let mut command = Command::new(checks(stage));
    command
        .env("SERVER", self::command(variant))
        .env_remove("PORT")
        .current_dir(repository().join("tests"));
    match check {
        Some(check) => command.args(["--exact", check]),
        None => command.args(["--skip", "sends_a_large_file"]), // half a gigabyte each time
    };
    let output = command.output().expect("the checks can be run");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_there = !printed.contains("running 0 tests");
    if output.status.success() && is_there { Ok(()) } else { Err(printed) }
}

/// Calls a function for each item, several at the same time, and returns all complaints.
fn complaints<T: Copy + Sync + Send>(
    items: &[T],
    examine: impl Fn(T) -> Result<(), String> + Sync,
) -> Vec<String> {
    let next = Mutex::new(items.iter());
    let complaints = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let item = next.lock().expect("no thread panics").next().copied();
                    let Some(item) = item else { return };
                    if let Err(complaint) = examine(item) {
                        complaints.lock().expect("no thread panics").push(complaint);
                    }
                }
            });
        }
    });
    complaints.into_inner().expect("no thread panics")
}

/// The report of a failed check, with words in place of the parts that vary, such as the port.
fn report(output: &str) -> String {
    let begin = output.find("Error: ").unwrap_or(0);
    let end = output[begin..].find("\nfailures:\n").map_or(output.len(), |length| begin + length);
    let report = without_files(&without_directory(&without_output(output[begin..end].trim_end())));
    let mut report = without_ids(&without_tags(&without_date(&report)));
    for before in ["port ", "127.0.0.1:", "localhost:"] {
        let mut parts = report.split(before).map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        report = parts.fold(first, |text, part| {
            let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
            let word = if rest.len() < part.len() { "PORT" } else { "" };
            format!("{text}{before}{word}{rest}")
        });
    }
    report + "\n"
}

/// Replaces the times of an answer, which vary, by a word.
fn without_date(report: &str) -> String {
    let lines = report.lines().map(|line| {
        let names = ["Date: ", "Last-Modified: ", "If-Modified-Since: ", "If-Range: "];
        let split = names.iter().find_map(|name| Some((name, line.split_once(name)?)));
        match split {
            Some((name, (before, date)))
                if date.ends_with(" GMT\\r\\n") && !date.contains(" 1994 ") =>
            {
                format!("{before}{name}DATE\\r\\n")
            }
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Replaces entity tags, which are made of times, by a word.
fn without_tags(report: &str) -> String {
    let is_tag = |text: &&str| {
        let hexadecimal = text.bytes().filter(|byte| byte.is_ascii_hexdigit()).count();
        text.contains('-') && hexadecimal > 15 && !text.contains(' ')
    };
    report
        .split('"')
        .map(|part| if is_tag(&part) { "TAG" } else { part })
        .collect::<Vec<_>>()
        .join("\"")
}

/// Replaces the names of requests, which are random, or count them, by a word.
fn without_ids(report: &str) -> String {
    let lines = report.lines().map(|line| match line.split_once("X-Request-Id: ") {
        Some((before, id)) if id.ends_with("\\r\\n") => format!("{before}X-Request-Id: ID\\r\\n"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Replaces the temporary directory, which varies, by a word. If there are unfinished uploads, also removes the
/// list of its files, because it depends on timing.
fn without_directory(report: &str) -> String {
    let option = [" --directory ", " --site "].into_iter().find(|option| report.contains(option));
    let Some((option, (before, rest))) =
        option.and_then(|option| Some((option, report.split_once(option)?)))
    else {
        return report.to_owned();
    };
    let has_uploads = before.ends_with("--max-connections 3");
    let end = rest.find(if has_uploads { "\n" } else { ", which" }).unwrap_or(rest.len());
    format!("{before}{option}DIRECTORY{}", &rest[end..])
}

/// Replaces the files of a store and of a certificate, which vary, by a word.
fn without_files(report: &str) -> String {
    ["--store ", "--cert ", "--key "].iter().fold(report.to_owned(), |report, option| {
        let mut parts = report.split(option).map(str::to_owned);
        let first = parts.next().unwrap_or_default();
        parts.fold(first, |text, part| {
            let end = part.find([' ', ':', '\n']).unwrap_or(part.len());
            format!("{text}{option}FILE{}", &part[end..])
        })
    })
}

/// Removes what the server printed, because it depends on timing, unless the server has ended.
fn without_output(report: &str) -> String {
    let has_ended = report.contains("your server has ended") || report.contains("ended before");
    match (report.split_once("\n\n  output "), has_ended) {
        (Some((before, rest)), false) => {
            // The next section begins with its name, which is indented by two columns. Output is indented further.
            let is_section = |at: &usize| rest[at + 4..].starts_with(|it: char| it != ' ');
            let next = rest.match_indices("\n\n  ").map(|(at, _)| at).find(is_section);
            format!("{before}{}", next.map_or("", |at| &rest[at..]))
        }
        _ => report.to_owned(),
    }
}

#[test]
fn each_mistake_gets_its_sentence() {
    get_their_sentences(|stage| stage <= 9);
}

#[ignore = "takes long; .ci/run runs it"]
#[test]
fn each_mistake_of_later_parts_gets_its_sentence() {
    get_their_sentences(|stage| stage > 9);
}

fn get_their_sentences(is_meant: impl Fn(usize) -> bool) {
    let rows: Vec<_> = MISTAKES.iter().filter(|(_, stage, ..)| is_meant(*stage)).copied().collect();
    let complaints = complaints(&rows, |(variant, stage, check, sentence)| {
        // On a busy machine, a mistake about what happens at the same time may not show at once.
        let run = || run(variant, stage, Some(check));
        match (0..5).try_for_each(|_| run()) {
            Ok(()) => Err(format!("{variant} passes the check {check} of stage {stage}")),
            Err(output) if report(&output).contains(sentence) => {
                keep(&name(variant, stage, check), &report(&output))
            }
            Err(output) => Err(format!("{variant} does not get \"{sentence}\" but\n{output}")),
        }
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The stage before the first one that a mistake must fail. The server must pass it, otherwise the report would
/// come too early. (To test all earlier stages would take long and show little more, because the mistakes share
/// one program.)
fn stage_before(variant: &str) -> Option<usize> {
    // These servers do only what the check that they fail is about, and cannot pass the stage before.
    const PARTIAL: [&str; 5] = [
        "cuts-steady-bodies",
        "no-retry-after",
        "limits-each-read",
        "counts-from-the-connection",
        "waits-for-idle-clients",
    ];
    let is_partial = variant.starts_with("chunks:")
        || variant.starts_with("site:")
        || variant.starts_with("caching:")
        || variant.starts_with("ranges:")
        || variant.starts_with("looping:")
        || variant.starts_with("securing:")
        || variant.starts_with("machines:")
        || PARTIAL.contains(&variant);
    let stages = MISTAKES.iter().filter(|(it, ..)| *it == variant).map(|(_, stage, ..)| *stage);
    stages.min().filter(|stage| *stage > 1 && !is_partial).map(|stage| stage - 1)
}

/// All mistakes of parts one and two, and one of each program of later parts, whose stages take long. Whoever adds a
/// mistake there tests all of them once, with `ALL=1`.
#[ignore = "takes long; .ci/run runs it"]
#[test]
fn mistakes_pass_the_stage_before() {
    let mut programs = BTreeSet::new();
    let mut is_first = |variant: &str| {
        variant.split_once(':').is_none_or(|(program, _)| programs.insert(program.to_owned()))
    };
    let variants: BTreeSet<_> = MISTAKES.iter().map(|(variant, ..)| *variant).collect();
    let mut variants: Vec<_> = variants.into_iter().collect();
    if env::var_os("ALL").is_none() {
        variants.retain(|variant| is_first(variant));
    }
    let complaints = complaints(&variants, |variant| {
        let Some(stage) = stage_before(variant) else { return Ok(()) };
        run(variant, stage, None).map_err(|output| format!("{variant}\n{output}"))
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// `cargo next` tells by the first check of a stage whether the learner has begun that stage.
#[test]
fn the_first_check_of_a_stage_is_about_what_is_new() {
    let stages = Stage::all();
    let pairs: Vec<_> = stages.iter().zip(&stages[1..]).collect();
    let complaints = complaints(&pairs, |(before, stage)| {
        let (before, number) = (before.name(), stage.order().parse().expect("a number"));
        let first = stage.checks().remove(0);
        match run(&before, number, Some(&first)) {
            Ok(()) => Err(format!("{before} passes {first}, the first check of {}", stage.name())),
            Err(_) => Ok(()),
        }
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[ignore = "takes long; .ci/run runs it"]
#[test]
fn other_styles_pass() {
    let complaints = complaints(&STYLES, |style| {
        let stages = (1..=last_stage(style)).map(|stage| run(style, stage, None));
        stages.collect::<Result<(), _>>().map_err(|output| format!("{style}\n{output}"))
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[ignore = "takes long; .ci/run runs it"]
#[test]
fn what_http_leaves_open_passes() {
    let complaints = complaints(CHOICES, |(variant, stage, check)| {
        run(variant, stage, check).map_err(|output| format!("{variant}\n{output}"))
    });
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_report_belongs_to_a_mistake() {
    if env::var_os("REWRITE").is_some() {
        return; // another test is writing them at the same time
    }
    let names = MISTAKES.iter().map(|(variant, stage, check, _)| name(variant, *stage, check));
    let steady = names.filter(|name| !UNSTEADY.contains(&name.as_str()));
    let mut expected: Vec<_> = steady.map(|name| name + ".txt").collect();
    expected.sort();
    let entries = fs::read_dir(repository().join("tests/reports")).expect("the reports are there");
    let mut found: Vec<_> = entries
        .map(|entry| {
            entry.expect("the entry can be read").file_name().to_string_lossy().into_owned()
        })
        .collect();
    found.sort();
    assert_eq!(found, expected);
}

/// The name of a report.
fn name(variant: &str, stage: usize, check: &str) -> String {
    let (_, plain) = variant.split_once(':').unwrap_or(("", variant));
    format!("{stage:02}-{plain}.{check}")
}

/// Compares a report with the kept one. If `REWRITE` is set, keeps the new one instead.
fn keep(name: &str, report: &str) -> Result<(), String> {
    if UNSTEADY.contains(&name) {
        return Ok(());
    }
    let path = repository().join(format!("tests/reports/{name}.txt"));
    if env::var_os("REWRITE").is_some() {
        return fs::write(&path, report).map_err(|error| format!("{}: {error}", path.display()));
    }
    let kept = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if kept == report {
        return Ok(());
    }
    let difference = pretty_assertions::StrComparison::new(&kept, report);
    Err(format!("the report {name} has changed (REWRITE=1 accepts it)\n{difference}"))
}
