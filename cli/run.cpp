// SPDX-License-Identifier: MIT
//
// dirtyring run: runs a guest and shows which pages it dirties.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <optional>

#include "builtin_guests.hpp"
#include "command.hpp"
#include "guest_file.hpp"
#include "line_view.hpp"
#include "live_view.hpp"
#include "machine/check.hpp"
#include "manual.hpp"
#include "output_file.hpp"
#include "parse.hpp"
#include "recorder.hpp"
#include "session.hpp"
#include "stop_signals.hpp"
#include "track_choice.hpp"

namespace dirtyring::cli {

namespace {

constexpr std::uint32_t default_ring = 65536;

struct RunOptions {
    std::string guest{builtin_guests().front().name};
    machine::Config machine{.vcpus = 2, .memory = std::uint64_t{256} << 20, .params = {}};
    std::optional<std::uint32_t> ring_entries;
    std::chrono::milliseconds interval{200};
    std::optional<std::chrono::nanoseconds> limit;
    std::optional<Track> track;  // nothing: choose
    RecorderPaths paths;
};

// Options ----------------------------------------------------------------------------------------

/// An option whose whole number from `least` to `most` goes into `target`.
template <typename Number>
CLI::Option* add_count(CLI::App& app, const std::string& name, const std::string& argument,
                       const std::string& about, Number& target, std::uint64_t least,
                       std::uint64_t most) {
    return add_parsed(app, name, argument, about, [&target, least, most](const std::string& text) {
        return parse_count(text, least, most).map([&target](std::uint64_t value) {
            target = Number(value);
        });
    });
}

Result<void> store_ring(RunOptions& options, const std::string& text) {
    // The most, and on some hosts the least, is the kernel's to say.
    const Result<std::uint64_t> entries = parse_count(text, 256, std::uint64_t{1} << 30);
    if (!entries) {
        return fail(entries.error());
    }
    if (!std::has_single_bit(*entries)) {
        return fail(
            {0, fmt::format("\"{}\"", text), "it is not a power of two",
             fmt::format("give {} or {}", std::bit_floor(*entries), std::bit_ceil(*entries))});
    }
    options.ring_entries = static_cast<std::uint32_t>(*entries);
    return {};
}

Result<void> store_track(RunOptions& options, const std::string& text) {
    if (text == "auto") {
        options.track.reset();
        return {};
    }
    for (const Track track : {Track::ring, Track::bitmap, Track::manual}) {
        if (text == name(track)) {
            options.track = track;
            return {};
        }
    }
    return fail({0, fmt::format("\"{}\"", text), "there is no such way of tracking",
                 "give ring, bitmap, manual or auto"});
}

void store_params(RunOptions& options, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
        const std::size_t equals = text.find('=');
        if (equals == 0 || equals == std::string::npos) {
            throw CLI::ValidationError(
                "--param",
                fmt::format("\"{}\": it is not a name and a value; write NAME=VALUE", text));
        }
        const std::string name = text.substr(0, equals);
        const auto same = [&](const auto& param) { return param.first == name; };
        if (std::ranges::any_of(options.machine.params, same)) {
            throw CLI::ValidationError("--param",
                                       fmt::format("\"{}\" is given twice; give it once", name));
        }
        options.machine.params.emplace_back(name, text.substr(equals + 1));
    }
}

/// What no option can say by itself.
void check_usage(const RunOptions& options) {
    if (options.ring_entries && options.track && *options.track != Track::ring) {
        throw CLI::ValidationError(
            "--ring", fmt::format("it says nothing with --track {}; leave one of them out",
                                  name(*options.track)));
    }
    if (const Result<void> checked = machine::check(options.machine); !checked) {
        throw CLI::ValidationError(checked.error().message());
    }
    require_different({{"GUEST", options.guest},
                       {"--json", options.paths.json},
                       {"--heatmap", options.paths.heatmap},
                       {"--trace", options.paths.trace}});
}

// Running ----------------------------------------------------------------------------------------

std::unique_ptr<View> make_view() {
    if (terminal::can_redraw()) {
        return std::make_unique<LiveView>();
    }
    return std::make_unique<LineView>();
}

Result<void> watch(Session& session, View& view, Recorder& recorder) {
    const Header& header = session.header();
    const Result<Outcome> outcome =
        recorder.begin(header).and_then([&] { return view.begin(header); }).and_then([&] {
            return session.run([&](const Interval& interval) {
                return recorder.add(interval).and_then(
                    [&] { return view.show(interval, recorder.totals()); });
            });
        });
    // The terminal is given back whatever has happened.
    const Result<void> given_back = view.end();
    if (!outcome) {
        return fail(outcome.error());
    }
    Result<void> done =
        given_back
            .and_then([&] {
                return write_all(STDOUT_FILENO, recorder.summary(*outcome), "standard output");
            })
            .and_then([&] { return recorder.finish(*outcome); });
    if (done && outcome->ending == Ending::failed) {
        return fail({0, "the guest " + header.guest + " failed", outcome->reason, {}});
    }
    return done;
}

Result<Track> track_of(const RunOptions& options) {
    if (options.track) {
        return *options.track;
    }
    const Result<TrackChoice> choice = choose_track();
    if (!choice) {
        return fail(choice.error());
    }
    const std::string line = fmt::format("tracking by {}: {}\n", name(choice->track), choice->why);
    return write_all(STDOUT_FILENO, line, "standard output").map([&] { return choice->track; });
}

Result<std::unique_ptr<Session>> make_session(const RunOptions& options,
                                              Interruption& interruption) {
    const Result<GuestFile> guest = load_guest(options.guest);
    if (!guest) {
        return fail(guest.error());
    }
    const Result<Track> track = track_of(options);
    if (!track) {
        return fail(track.error());
    }
    return Session::create({.machine = options.machine,
                            .track = *track,
                            .ring_entries = options.ring_entries.value_or(default_ring),
                            .interval = options.interval,
                            .limit = options.limit},
                           *guest, interruption);
}

Result<void> run(const RunOptions& options) {
    check_usage(options);
    const std::unique_ptr<View> view = make_view();
    Interruption interruption;
    // Before all that a signal must not leave behind: files, a terminal in disorder. A view that
    // cannot draw now cannot at its next show either, and that tells.
    const StopSignals signals(
        {.stop = [&](int signal) { interruption.interrupt(signal); },
         .resized = [&] { [[maybe_unused]] const auto drawn = view->redraw(); },
         .suspended =
             [&](const std::function<void()>& stop_here) {
                 [[maybe_unused]] const auto drawn = view->step_aside(stop_here);
             }});
    Result<Recorder> recorder = Recorder::open(options.paths);
    if (!recorder) {
        return fail(std::move(recorder.error()));
    }
    const Result<std::unique_ptr<Session>> session = make_session(options, interruption);
    if (!session) {
        return fail(session.error());
    }
    return watch(**session, *view, *recorder);
}

// The manual -------------------------------------------------------------------------------------

std::string guest_names() {
    std::string names;
    for (const BuiltinGuest& guest : builtin_guests()) {
        names += fmt::format("{}{} ({})", names.empty() ? "" : ", ", guest.name, guest.about);
    }
    return names;
}

Manual run_manual() {
    return {
        .page = "dirtyring-run",
        .summary = "run a guest on KVM and show which pages it dirties",
        .description =
            {"Runs a guest program in a small virtual machine and tracks which pages of its memory "
             "are written, by each vCPU's dirty ring or by the dirty bitmap. On a terminal a "
             "table is redrawn in place, with a strip of guest memory coloured by heat; otherwise "
             "there is one line an interval. A summary comes at the end.",
             "Without --seconds and --rounds the guest runs until Ctrl-C, which ends it with the "
             "summary, as SIGTERM and SIGHUP do."},
        .sections =
            {{.title = "FIGURES",
              .paragraphs = {},
              .entries =
                  {{"pages/s, MiB/s",
                    "Entries read from the ring a second. A ring that is half full is drained, "
                    "and a page that has been read is logged again at its next write, so one page "
                    "can count more than once in an interval. With a bitmap: distinct pages a "
                    "second."},
                   {"distinct",
                    "Different pages written in the interval. A vCPU's figure has those that its "
                    "ring was the first to name."},
                   {"peak fill",
                    "The most entries that were ever found in the ring at once, and what share of "
                    "it that is."},
                   {"full exits", "How often the vCPU left the guest because its ring was full."},
                   {"lost",
                    "Entries that the kernel is known to have overwritten before they were read. "
                    "After such an overrun every page counts as dirty in that interval."},
                   {"harvest, reset",
                    "Time spent reading rings, and in KVM_RESET_DIRTY_RINGS. With a bitmap there "
                    "is one figure for both."},
                   {"page writes", "What the guest says it has written, round by round."}}},
             {.title = "GUESTS",
              .paragraphs =
                  {"A guest is a static ELF64 executable for x86-64 without an operating system, "
                   "or a flat binary; guests/abi.hpp in the source says what it finds and how it "
                   "ends. Where there is no file of that name, these are built in:"},
              .entries =
                  [] {
                      std::vector<Entry> entries;
                      for (const BuiltinGuest& guest : builtin_guests()) {
                          entries.emplace_back(guest.name, guest.about);
                      }
                      return entries;
                  }()},
             {.title = "FILES",
              .paragraphs =
                  {"A file that is asked for is written beside its place and renamed when it is "
                   "whole. Pipes and devices are written as they are.",
                   "The trace is a binary file; docs/trace-format.md describes it.",
                   "The JSON file holds one object:"},
              .entries =
                  {{"format, version", "\"dirtyring run\" and 1."},
                   {"guest, params, vcpus, memory_bytes, page_bytes, track, ring_entries, "
                    "interval_ns",
                    "What was run, and how it was tracked. ring_entries is there with rings only."},
                   {"outcome",
                    "result (\"succeeded\", \"stopped\" or \"failed\"), reason, vcpus (a sentence "
                    "for each), console (what the guest wrote)."},
                   {"totals",
                    "duration_ns, intervals, intervals_everything (those with lost entries), "
                    "distinct_pages, page_changes (dirty pages, once an interval), harvest_ns, "
                    "reset_ns; then as in vcpus, all together; vcpus: for each rounds and "
                    "page_writes by the guest's own count, and with rings entries, "
                    "distinct_pages, ring_full_exits, overruns, lost_entries, peak_fill."},
                   {"intervals",
                    "For each: begin_ns and end_ns since the guest's start, distinct_pages, "
                    "distinct_pages_so_far, everything (entries were lost), harvest_ns, reset_ns, "
                    "and vcpus as in totals."}}},
             {.title = "ENVIRONMENT",
              .paragraphs = {},
              .entries = {{"NO_COLOR", "If set, the strip is drawn with letters."},
                          {"COLORTERM", "\"truecolor\" or \"24bit\": colours of 24 bits."},
                          {"TERM", "\"dumb\": one line an interval, as without a terminal."}}}},
        .examples =
            {{"dirtyring run", "shows a log-structured store at work, until Ctrl-C."},
             {"dirtyring run merge_sort --seconds 10 --interval 50 --heatmap sort.svg",
              "draws where a merge sort writes, in columns of 50 ms."},
             {"dirtyring run writer --param pattern=zipf --param rate=100000 --rounds 3",
              "writes at a given rate and pattern."},
             {"dirtyring run ./my-guest --vcpus 4 --memory 1G --track bitmap --trace my.trace",
              "tracks a guest of one's own by bitmap, to be looked at later."}},
        .exit_status =
            {{"0", "The guest succeeded, or was stopped by --seconds or a signal."},
             {"1",
              "The guest failed or faulted, a file cannot be read or written, or KVM cannot "
              "be used. Files that are asked for are written whole or not at all."},
             {"2", "The command line is wrong."}},
        .see_also = {"dirtyring(1)", "dirtyring-probe(1)", "dirtyring-report(1)"},
    };
}

}  // namespace

Command add_run(CLI::App& parent) {
    CLI::App* const app = parent.add_subcommand("run");
    set_manual(*app, run_manual());
    const auto options = std::make_shared<RunOptions>();
    RunOptions& o = *options;
    app->add_option("GUEST", o.guest,
                    fmt::format("The guest: the path of its program, or one of {}. The default is "
                                "{}.",
                                guest_names(), o.guest));
    add_count(*app, "--vcpus", "N", "vCPUs, 1 to 32; the default is 2.", o.machine.vcpus, 1,
              machine::max_vcpus);
    add_parsed(*app, "--memory", "SIZE",
               "Guest memory, 8M to 64G in steps of 2M; the default is 256M. It costs the host "
               "what the guest touches.",
               [&o](const std::string& text) {
                   return parse_size(text, machine::min_memory, machine::max_memory)
                       .map([&o](std::uint64_t value) { o.machine.memory = value; });
               });
    add_parsed(*app, "--ring", "ENTRIES",
               "Entries of each vCPU's dirty ring, a power of two from 256 (1024 on some hosts) to "
               "what dirtyring probe says; the default is 65536.",
               [&o](const std::string& text) { return store_ring(o, text); });
    add_count(*app, "--interval", "MS",
              "Length of an interval in milliseconds, 1 to 3600000; the default is 200.",
              o.interval, 1, 3600000);
    CLI::Option* const seconds = add_parsed(
        *app, "--seconds", "S", "Stops the guest after so long.", [&o](const std::string& text) {
            return parse_seconds(text).map(
                [&o](std::chrono::nanoseconds value) { o.limit = value; });
        });
    add_count(*app, "--rounds", "N",
              "Lets the guest end by itself after so many rounds of its work.", o.machine.rounds, 1,
              ~std::uint64_t{0})
        ->excludes(seconds);
    app->add_option_function<std::vector<std::string>>(
           "--param", [&o](const std::vector<std::string>& texts) { store_params(o, texts); },
           "A parameter for the guest, which says what it knows when it is given another. Can be "
           "given 16 times.")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false);
    add_parsed(*app, "--track", "WAY",
               "How to track: ring, bitmap, manual (a bitmap with manual protection), or auto, "
               "which takes what dirtyring probe recommends and says why. The default is auto.",
               [&o](const std::string& text) { return store_track(o, text); });
    app->add_option("--json", o.paths.json, "Writes the summary and all intervals as JSON.")
        ->type_name("FILE");
    app->add_option("--heatmap", o.paths.heatmap,
                    "Draws address against time, coloured by pages dirtied a second, as SVG.")
        ->type_name("FILE.svg");
    app->add_option("--trace", o.paths.trace, "Writes each interval's pages, for dirtyring report.")
        ->type_name("FILE");
    return {app, [options] { return run(*options); }};
}

}  // namespace dirtyring::cli
