// SPDX-License-Identifier: MIT
//
// dirtyring run: runs a guest and shows which pages it dirties.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "command.hpp"
#include "dirtyring/memory.hpp"
#include "format.hpp"
#include "guest_file.hpp"
#include "guest_options.hpp"
#include "line_view.hpp"
#include "live_view.hpp"
#include "manual.hpp"
#include "output_file.hpp"
#include "parse.hpp"
#include "recorder.hpp"
#include "session.hpp"
#include "track_choice.hpp"

namespace dirtyring::cli {

namespace {

struct RunOptions {
    RunOptions() { guest.machine.vcpus = 2; }

    GuestOptions guest;
    std::chrono::milliseconds interval{200};
    std::optional<std::chrono::nanoseconds> length;
    std::optional<std::uint64_t> limit;
    RecorderPaths paths;
};

// Options ----------------------------------------------------------------------------------------

/// What no option can say by itself.
void check_usage(const RunOptions& options) {
    check_guest_options(options.guest);
    const std::optional<Track> track = options.guest.track;
    if (options.limit && track && *track != Track::ring) {
        throw CLI::ValidationError(
            "--limit", fmt::format("--track {} does not tell while the guest runs how much a vCPU "
                                   "has written; track by ring, or leave --limit out",
                                   name(*track)));
    }
    require_different({{"GUEST", options.guest.guest},
                       {"--json", options.paths.json},
                       {"--heatmap", options.paths.heatmap},
                       {"--trace", options.paths.trace},
                       {"--stats", options.paths.stats}});
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
                    [&] { return view.show(interval, recorder.totals(), session.live()); });
            });
        });
    // The terminal is given back whatever has happened.
    const Result<void> given_back = view.end();
    if (!outcome) {
        return fail(outcome.error());
    }
    const Live live = session.live();
    Result<void> done = given_back
                            .and_then([&] {
                                return write_all(STDOUT_FILENO, recorder.summary(*outcome, &live),
                                                 "standard output");
                            })
                            .and_then([&] { return recorder.finish(*outcome, &live); });
    if (done && outcome->ending == Ending::failed) {
        return fail({0, "the guest " + header.guest + " failed", outcome->reason, {}});
    }
    return done;
}

Result<Track> track_of(const RunOptions& options) {
    const Result<TrackChoice> choice = choose_track(options.guest.track);
    if (!choice) {
        return fail(choice.error());
    }
    if (options.limit && choice->track != Track::ring) {
        return fail({0, fmt::format("hold the guest to {} a second", bytes(*options.limit)),
                     fmt::format("this host has no dirty rings, and a bitmap ({}) does not tell "
                                 "while the guest runs how much a vCPU has written",
                                 name(choice->track)),
                     "leave --limit out"});
    }
    return tell(*choice);
}

Result<std::unique_ptr<Session>> make_session(const RunOptions& options,
                                              Interruption& interruption) {
    const Result<GuestFile> guest = load_guest(options.guest.guest);
    if (!guest) {
        return fail(guest.error());
    }
    const Result<Track> track = track_of(options);
    if (!track) {
        return fail(track.error());
    }
    return Session::create({.machine = options.guest.machine,
                            .track = *track,
                            .ring_entries = options.guest.ring(),
                            .interval = options.interval,
                            .length = options.length,
                            .limit = options.limit},
                           *guest, interruption);
}

Result<void> run(const RunOptions& options) {
    check_usage(options);
    const std::unique_ptr<View> view = make_view();
    Interruption interruption;
    // Before all that a signal must not leave behind: files, a terminal in disorder.
    const StopSignals signals(signals_for(*view, interruption));
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
                   {"stopped",
                    "Time that vCPUs were kept out of the guest for the sake of tracking: while "
                    "their full ring was read, and by --limit."},
                   {"on average, of late",
                    "Pages dirtied a second, counted as for pages/s: over the whole run, and with "
                    "what is long ago fading (half of it in 0.7 s)."},
                   {"duplicates", "Entries of pages that were dirty already when they were read."},
                   {"suspects",
                    "Pages that count as dirty in each interval, since a signal may have kept the "
                    "kernel from arming them again."},
                   {"page writes", "What the guest says it has written, round by round."}}},
             guests_section(),
             {.title = "FILES",
              .paragraphs =
                  {"A file that is asked for is written beside its place and renamed when it is "
                   "whole. Pipes and devices are written as they are.",
                   "The trace is a binary file; docs/trace-format.md describes it. The "
                   "last part of the summary, with rates and times, is not in it, and dirtyring "
                   "report does not show that.",
                   "The file of --stats has, as JSON, what the JSON file has under "
                   "live.statistics. Else it is Prometheus' text format, with names that begin "
                   "with dirtyring_ and times in seconds, as node_exporter's textfile collector "
                   "takes it from a file NAME.prom. With a bitmap what rings tell is 0, and the "
                   "rates are under all, or dirtyring_vm_.",
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
                    "and vcpus as in totals."},
                   {"live",
                    "Not in dirtyring report's. limit (bytes a second, 0 without --limit) and "
                    "statistics: nanoseconds; collects, committed, aborted, everything, "
                    "short_resets, suspects, stale, marks_outside; collect, harvest and reset with "
                    "count, sum and buckets (pairs: so many nanoseconds, and how often it took "
                    "less than that and not less than the pair before); all, and vcpus: for each "
                    "entries, duplicates, full_exits, overruns, lost, largest_fill, "
                    "stopped_nanoseconds, pages_per_second, bytes_per_second, "
                    "recent_pages_per_second, recent_bytes_per_second, removed."}}},
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
             {"dirtyring run writer --limit 20MiB/s --seconds 10 --stats writer.prom",
              "holds each vCPU to 20 MiB dirtied a second, and leaves figures for Prometheus."},
             {"dirtyring run ./my-guest --vcpus 4 --memory 1G --track bitmap --trace my.trace",
              "tracks a guest of one's own by bitmap, to be looked at later."}},
        .exit_status =
            {{"0", "The guest succeeded, or was stopped by --seconds or a signal."},
             {"1",
              "The guest failed or faulted, a file cannot be read or written, or KVM cannot "
              "be used. Files that are asked for are written whole or not at all."},
             {"2", "The command line is wrong."}},
        .see_also = {"dirtyring(1)", "dirtyring-probe(1)", "dirtyring-reset(1)",
                     "dirtyring-report(1)"},
    };
}

}  // namespace

Command add_run(CLI::App& parent) {
    CLI::App* const app = parent.add_subcommand("run");
    set_manual(*app, run_manual());
    const auto options = std::make_shared<RunOptions>();
    RunOptions& o = *options;
    add_guest_options(*app, o.guest);
    add_count(*app, "--vcpus", "N", "vCPUs, 1 to 32; the default is 2.", o.guest.machine.vcpus, 1,
              machine::max_vcpus);
    add_count(*app, "--interval", "MS",
              "Length of an interval in milliseconds, 1 to 3600000; the default is 200.",
              o.interval, 1, 3600000);
    CLI::Option* const seconds = add_parsed(
        *app, "--seconds", "S", "Stops the guest after so long.", [&o](const std::string& text) {
            return parse_seconds(text).map(
                [&o](std::chrono::nanoseconds value) { o.length = value; });
        });
    add_count(*app, "--rounds", "N",
              "Lets the guest end by itself after so many rounds of its work.",
              o.guest.machine.rounds, 1, ~std::uint64_t{0})
        ->excludes(seconds);
    add_parsed(
        *app, "--limit", "SIZE",
        "Bytes that each vCPU may dirty a second, 4K to 1T (100M, 100MiB/s): one that writes "
        "faster is kept waiting. With rings only.",
        [&o](const std::string& text) {
            return parse_rate(text, page_size, std::uint64_t{1} << 40)
                .map([&o](std::uint64_t value) { o.limit = value; });
        });
    app->add_option("--json", o.paths.json, "Writes the summary and all intervals as JSON.")
        ->type_name("FILE");
    app->add_option("--heatmap", o.paths.heatmap,
                    "Draws address against time, coloured by pages dirtied a second, as SVG.")
        ->type_name("FILE.svg");
    app->add_option("--trace", o.paths.trace, "Writes each interval's pages, for dirtyring report.")
        ->type_name("FILE");
    app->add_option("--stats", o.paths.stats,
                    "Writes what tracking has seen and cost: as JSON where the name ends in .json, "
                    "else as Prometheus reads it.")
        ->type_name("FILE");
    return {app, [options] { return run(*options); }};
}

}  // namespace dirtyring::cli
