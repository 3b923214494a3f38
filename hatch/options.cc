// SPDX-License-Identifier: Apache-2.0
#include "hatch/options.h"

#include <cerrno>
#include <optional>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/algorithm/container.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "transport/error.h"

namespace argosy::hatch {
namespace {

constexpr char kVersion[] = "hatch (Argosy) 0.1.0";
constexpr uint64_t kMostPings = 10'000'000;
constexpr size_t kSmallestPing = 16;
constexpr size_t kLargestPing = 60 * 1024;  // fits into a datagram of every carrier
constexpr size_t kLargestBlock = 1 << 20;

constexpr char kDescription[] =
    "netcat for VM sockets: joins standard input and output to a port of another virtual machine.\n"
    "  hatch dom0 1234 < file          connect\n"
    "  hatch -l 1234                   listen\n"
    "  hatch -r -p 1234 > file         listen and only receive\n"
    "CID is a number, domN, host, local or a name that the transport knows; 0 means dom0.  Where\n"
    "there is one machine alone (-T uds:PATH), PORT will do.";

absl::Status UsageError(absl::string_view what) {
  return ErrnoError(EINVAL, absl::StrCat(what, " (see 'hatch --help')"));
}

// What is parsed but not yet checked.
struct Raw {
  std::vector<std::string> target;
  std::string port_option;
  bool listen = false, receive_form = false, probe = false, perf_server = false;
  std::optional<double> wait, seconds;
};

absl::StatusOr<absl::Duration> Seconds(double seconds, absl::string_view option) {
  // Also false for NaN.
  if (!(seconds > 0 && seconds <= 1e6)) {
    return UsageError(absl::StrCat(option, " takes seconds, above 0 and at most 1000000"));
  }
  return absl::Seconds(seconds);
}

// Numbers and domN are checked here, so that a slip is found before a transport is opened; names
// are the transport's.
absl::Status CheckCid(absl::string_view cid) {
  const bool number = !cid.empty() && absl::c_all_of(cid, absl::ascii_isdigit);
  const bool domain = cid.size() > 3 && absl::StartsWith(cid, "dom") && absl::ascii_isdigit(cid[3]);
  if (cid.empty()) return UsageError("the CID is empty");
  if (!number && !domain && cid != "any") return absl::OkStatus();
  absl::StatusOr<uint32_t> parsed = ParseCid(cid);
  if (!parsed.ok()) return UsageError(parsed.status().message());
  if (*parsed == kCidAny)
    return UsageError(absl::StrCat("nobody can be reached at CID '", cid, "'"));
  return absl::OkStatus();
}

// Takes CID (where wanted), PORT and, for files, FILE from the arguments without a name.  PORT alone
// may do: only the transport knows whether there is but one machine.
absl::Status TakeTarget(std::vector<std::string> target, bool with_cid, bool with_file,
                        Options& options) {
  if (target.empty()) {
    return UsageError(with_cid ? "a CID and a port are needed" : "a port is needed");
  }
  if (target.size() > 1u + (with_cid ? 1 : 0) + (with_file ? 1 : 0)) {
    return UsageError(absl::StrCat("'", target.back(), "' is one argument too many"));
  }
  if (with_cid && target.size() > 1) {
    if (absl::Status s = CheckCid(target[0]); !s.ok()) return s;
    options.cid = target[0];
    target.erase(target.begin());
  }
  absl::StatusOr<uint32_t> port = ParsePort(target[0]);
  if (!port.ok()) return UsageError(port.status().message());
  options.port = *port;
  if (target.size() == 2) options.file = target[1];
  return absl::OkStatus();
}

absl::Status CheckPipeMode(const Raw& raw, Options& o) {
  const bool listen = raw.listen || raw.receive_form;
  o.command = listen ? Command::kListen : raw.probe ? Command::kProbe : Command::kConnect;
  o.receive_only |= raw.receive_form;
  if (o.datagram && o.seqpacket) return UsageError("-u and --seqpacket exclude each other");
  if (o.send_only && o.receive_only) return UsageError("--send-only excludes --recv-only and -r");
  if (raw.probe && (listen || o.datagram))
    return UsageError("-z only works for connections (no -l, -r, -u)");
  if (o.keep_listening && !listen) return UsageError("-k needs -l");
  if (!o.execute.empty() && (o.datagram || raw.probe || o.send_only || o.receive_only)) {
    return UsageError("-e excludes -u, -z, --send-only and --recv-only");
  }
  if (!listen) return TakeTarget(raw.target, /*with_cid=*/true, false, o);
  if (!raw.port_option.empty()) {
    if (!raw.target.empty()) return UsageError("the port is given twice");
    o.local_port = kPortAny;
    return TakeTarget({raw.port_option}, /*with_cid=*/false, false, o);
  }
  return TakeTarget(raw.target, /*with_cid=*/false, false, o);
}

}  // namespace

absl::StatusOr<std::variant<Options, Text>> ParseOptions(int argc, const char* const* argv) {
  Options o;
  Raw raw;
  CLI::App app(kDescription, "hatch");
  app.set_version_flag("--version", kVersion);
  app.require_subcommand(0, 1);
  app.get_formatter()->column_width(28);

  const auto common = [&](CLI::App* command, bool waits) {
    command->add_option(
        "-T,--transport", o.transport,
        "What carries the sockets: kernel:, uds:PATH, sim:SOCKET?domain=NAME or loopback:[DIR] "
        "(else $ARGOSY_TRANSPORT, else kernel:)");
    command->add_flag("-v,--verbose", o.verbose, "Say on standard error what happens");
    if (waits)
      command->add_option("-w,--wait", raw.wait,
                          "Give up connecting, or a connection without data, after SECONDS");
  };
  const auto peer = [&](CLI::App* command) {
    command->add_option("target", raw.target, "CID PORT")->type_name("")->expected(0, 3);
  };
  const auto local_port = [&](CLI::App* command, const char* help) {
    command->add_option("-p,--port", raw.port_option, help);
  };

  app.add_option("target", raw.target, "CID PORT, or with -l only PORT")
      ->type_name("")
      ->expected(0, 3);
  app.add_flag("-l,--listen", raw.listen, "Listen instead of connecting");
  app.add_flag("-k,--keep", o.keep_listening,
               "With -l: serve one connection after another; with -e all at once");
  app.add_flag("-r", raw.receive_form, "Listen and only receive (with -p PORT)");
  local_port(&app, "Source port, or the port to listen on");
  app.add_flag("-u,--dgram", o.datagram, "Datagrams");
  app.add_flag("--seqpacket", o.seqpacket,
               "Sequenced packets: each read of standard input is one message");
  app.add_option("-e,--exec", o.execute,
                 "Give the connection to 'sh -c CMD' as standard input and output");
  app.add_flag("-z", raw.probe, "Only probe: exit code 0 if somebody listens");
  app.add_flag("--send-only", o.send_only, "Write nothing to standard output");
  app.add_flag("--recv-only", o.receive_only, "Read nothing from standard input");
  common(&app, true);

  CLI::App* send = app.add_subcommand("send", "Send a file to 'hatch recv', checked by a digest");
  send->add_option("target", raw.target, "CID PORT [FILE]; without FILE or with '-' standard input")
      ->type_name("")
      ->expected(0, 3);
  local_port(send, "Source port");
  common(send, true);

  CLI::App* receive = app.add_subcommand(
      "recv", "Receive a file from 'hatch send'; it appears only when it is whole");
  receive->add_option("target", raw.target, "PORT [FILE]; without FILE or with '-' standard output")
      ->type_name("")
      ->expected(0, 2);
  receive->add_flag("-f,--force", o.overwrite, "Replace FILE if it exists");
  common(receive, true);

  CLI::App* echo = app.add_subcommand("echo", "Send back what comes, for 'hatch ping'");
  echo->add_option("target", raw.target, "PORT")->type_name("")->expected(0, 1);
  echo->add_flag("-u,--dgram", o.datagram, "Datagrams");
  common(echo, false);

  CLI::App* ping = app.add_subcommand("ping", "Measure round trips to 'hatch echo'");
  peer(ping);
  uint64_t count = 1000, ping_size = 64;
  ping->add_option("-c,--count", count, "Round trips")->capture_default_str();
  ping->add_option("-s,--size", ping_size, "Bytes in each")->capture_default_str();
  ping->add_flag("-u,--dgram", o.datagram, "Datagrams");
  common(ping, true);

  CLI::App* perf = app.add_subcommand(
      "perf", "Measure throughput and latency: 'perf --server PORT' there, 'perf CID PORT' here");
  peer(perf);
  perf->add_flag("--server", raw.perf_server, "Serve measurements on PORT");
  uint64_t perf_size = 64 * 1024, pings = 1000;
  CLI::Option* seconds = perf->add_option("--seconds", raw.seconds, "How long (default 5)");
  perf->add_option("--bytes", o.bytes, "How much instead; K, M and G are powers of 1024")
      ->transform(CLI::AsSizeValue(false))
      ->excludes(seconds);
  perf->add_option("--size", perf_size, "Bytes in each write (default 65536)")
      ->transform(CLI::AsSizeValue(false));
  perf->add_option("--pings", pings, "Round trips before that, 0 for none (default 1000)");
  perf->add_flag("--reverse", o.reverse, "The server sends");
  perf->add_flag("--json", o.json, "Print the result as JSON");
  common(perf, true);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    for (CLI::App* command : app.get_subcommands()) return Text{command->help("hatch")};
    return Text{app.help()};
  } catch (const CLI::CallForVersion&) {
    return Text{absl::StrCat(kVersion, "\n")};
  } catch (const CLI::ParseError& error) {
    return UsageError(error.what());
  }

  if (raw.wait.has_value()) {
    absl::StatusOr<absl::Duration> wait = Seconds(*raw.wait, "-w");
    if (!wait.ok()) return wait.status();
    o.wait = *wait;
  }
  if (!raw.port_option.empty()) {
    absl::StatusOr<uint32_t> port = ParsePort(raw.port_option);
    if (!port.ok()) return UsageError(port.status().message());
    o.local_port = *port;
  }

  absl::Status status;
  if (send->parsed()) {
    o.command = Command::kSend;
    status = TakeTarget(raw.target, true, true, o);
  } else if (receive->parsed()) {
    o.command = Command::kReceive;
    status = TakeTarget(raw.target, false, true, o);
  } else if (echo->parsed()) {
    o.command = Command::kEcho;
    status = TakeTarget(raw.target, false, false, o);
  } else if (ping->parsed()) {
    o.command = Command::kPing;
    o.count = count;
    o.size = ping_size;
    if (count < 1 || count > kMostPings)
      return UsageError(absl::StrCat("-c takes 1 to ", kMostPings));
    if (ping_size < kSmallestPing || ping_size > kLargestPing) {
      return UsageError(absl::StrCat("-s takes ", kSmallestPing, " to ", kLargestPing));
    }
    status = TakeTarget(raw.target, true, false, o);
  } else if (perf->parsed()) {
    o.command = raw.perf_server ? Command::kPerfServer : Command::kPerf;
    o.size = perf_size;
    o.count = pings;
    if (pings > kMostPings) return UsageError(absl::StrCat("--pings takes 0 to ", kMostPings));
    if (perf_size < 1 || perf_size > kLargestBlock) {
      return UsageError(absl::StrCat("--size takes 1 to ", kLargestBlock));
    }
    absl::StatusOr<absl::Duration> duration = Seconds(raw.seconds.value_or(5), "--seconds");
    if (!duration.ok()) return duration.status();
    o.duration = *duration;
    status = TakeTarget(raw.target, !raw.perf_server, false, o);
  } else {
    status = CheckPipeMode(raw, o);
  }
  if (!status.ok()) return status;
  return o;
}

}  // namespace argosy::hatch
