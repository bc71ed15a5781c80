// SPDX-License-Identifier: MIT
//
// dirtyring reset: resets a guest to a snapshot after each round, and shows what that takes.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <utility>

#include "command.hpp"
#include "guest_file.hpp"
#include "guest_options.hpp"
#include "host_line.hpp"
#include "manual.hpp"
#include "output_file.hpp"
#include "reset_loop.hpp"
#include "reset_summary.hpp"
#include "reset_view.hpp"
#include "session.hpp"
#include "stop_signals.hpp"
#include "track_choice.hpp"
#include "view.hpp"

namespace dirtyring::cli {

namespace {

constexpr std::uint64_t default_rounds = 10000;

struct ResetCommand {
    GuestOptions guest;
    std::chrono::milliseconds interval{200};
    std::optional<std::uint64_t> rounds;
    std::optional<std::chrono::nanoseconds> length;
    bool verify = false;
    std::string json;
};

/// The file and what goes into it.
struct ResetJsonFile {
    OutputFile file;
    BenchHost host;
    std::optional<ResetJson> document = std::nullopt;
};

Result<std::optional<ResetJsonFile>> open_json(const std::string& path) {
    Result<std::optional<OutputFile>> file = create_if_wanted(path);
    if (!file) {
        return fail(std::move(file.error()));
    }
    if (!*file) {
        return std::nullopt;
    }
    Result<BenchHost> host = look_at_host();
    if (!host) {
        return fail(std::move(host.error()));
    }
    return ResetJsonFile{.file = std::move(**file), .host = std::move(*host)};
}

Result<void> watch_resets(ResetLoop& loop, ResetView& view, std::optional<ResetJsonFile>& json) {
    const ResetConfig& config = loop.config();
    const Header& header = loop.header();
    if (json) {
        json->document.emplace(config, header, json->host);
    }
    ResetState end;
    const Result<Outcome> outcome = view.begin(config, header).and_then([&] {
        return loop.run([&](const ResetState& state) {
            end = state;
            if (json) {
                json->document->add(state);
            }
            return view.show(state);
        });
    });
    // The terminal is given back whatever has happened.
    const Result<void> given_back = view.end();
    if (!outcome) {
        return fail(outcome.error());
    }
    Result<void> done = given_back.and_then([&] {
        return write_all(STDOUT_FILENO, reset_summary(config, header, end, *outcome),
                         "standard output");
    });
    if (done && json) {
        done = json->file.finish(json->document->finish(end, *outcome));
    }
    if (done && outcome->ending == Ending::failed) {
        return fail({0, "reset the guest " + header.guest, outcome->reason, {}});
    }
    return done;
}

Result<std::unique_ptr<ResetLoop>> make_loop(const ResetCommand& command,
                                             Interruption& interruption) {
    const Result<GuestFile> guest = load_guest(command.guest.guest);
    if (!guest) {
        return fail(guest.error());
    }
    const Result<Track> track = choose_track(command.guest.track).and_then(tell);
    if (!track) {
        return fail(track.error());
    }
    ResetConfig config{.machine = command.guest.machine,
                       .track = *track,
                       .ring_entries = command.guest.ring(),
                       .interval = command.interval,
                       .rounds = command.rounds,
                       .length = command.length,
                       .verify = command.verify};
    if (!config.rounds && !config.length) {
        config.rounds = default_rounds;
    }
    return ResetLoop::create(config, *guest, interruption);
}

Result<void> run_resets(const ResetCommand& command) {
    check_guest_options(command.guest);
    require_different({{"GUEST", command.guest.guest}, {"--json", command.json}});
    const std::unique_ptr<ResetView> view = make_reset_view();
    Interruption interruption;
    // Before all that a signal must not leave behind: files, a terminal in disorder.
    const StopSignals signals(signals_for(*view, interruption));
    Result<std::optional<ResetJsonFile>> json = open_json(command.json);
    if (!json) {
        return fail(std::move(json.error()));
    }
    const Result<std::unique_ptr<ResetLoop>> loop = make_loop(command, interruption);
    if (!loop) {
        return fail(loop.error());
    }
    return watch_resets(**loop, *view, *json);
}

Manual resets_manual() {
    return {
        .page = "dirtyring-reset",
        .summary = "reset a guest to a snapshot after each round and show what that takes",
        .description =
            {"Runs a guest program in a small virtual machine with one vCPU. When it has made 3 "
             "rounds of its work, a snapshot is taken of its memory and state; after each round "
             "from then on the pages that it has written, and its registers, are put back as they "
             "were, as a snapshot fuzzer does. On a terminal a table of what a round takes is "
             "redrawn in place; otherwise there is one line an interval. A summary comes at the "
             "end.",
             "With --verify all of memory and all state are compared with the snapshot after "
             "every reset. Try it with a guest of your own.",
             "Ctrl-C ends it with the summary, as SIGTERM and SIGHUP do."},
        .sections =
            {{.title = "FIGURES",
              .paragraphs = {"All are of a round, on average, but for the first and the hot pages. "
                             "The parts and the rest are the whole time from one reset's end to "
                             "that of the next; showing it is not in it."},
              .entries =
                  {{"rounds/s", "Rounds of the guest's work, each with its reset, a second."},
                   {"pages", "Pages that may have been written: those that are looked at."},
                   {"changed", "Of these, pages that were not as in the snapshot."},
                   {"hot",
                    "Pages that are left writable, for they are written in most rounds: they cost "
                    "the guest no fault, and count as written in each round. With --track bitmap "
                    "there are none."},
                   {"guest",
                    "From the guest's entry to the end of its round, the faults at pages that "
                    "tracking has made read-only in it; waiting while a full ring is read is not."},
                   {"harvest", "Reading the ring."},
                   {"re-arm", "KVM_RESET_DIRTY_RINGS, so that the next write is logged again."},
                   {"collect",
                    "With a bitmap harvest and re-arm together, for KVM_GET_DIRTY_LOG does both "
                    "in one call; with manual protection KVM_CLEAR_DIRTY_LOG is in it too."},
                   {"copy", "Comparing pages with the snapshot and copying those that differ."},
                   {"state", "Putting the registers back."},
                   {"verify", "With --verify: comparing all memory and state."},
                   {"rest", "What is between these, such as keeping these figures."}}},
             guests_section(),
             {.title = "STATE",
              .paragraphs =
                  {"A guest here is in ring 3 and cannot change more of the state than general, "
                   "segment and control registers, FPU and vector registers and events, so these "
                   "are put back. --verify compares model-specific and debug registers as well. "
                   "The guest's time goes on through a reset, and is not compared."},
              .entries = {}},
             {.title = "JSON",
              .paragraphs = {"The file of --json holds one object. A file that is asked for is "
                             "written beside its place and renamed when it is whole."},
              .entries =
                  {{"format, version", "\"dirtyring reset\" and 1."},
                   {"guest, params, vcpus, memory_bytes, page_bytes, track, ring_entries, "
                    "interval_ns, verify",
                    "What was run, and how it was tracked. ring_entries is there with rings only."},
                   {"host",
                    "cpu_model, cpus, kernel_release, kvm_module, load_average (over 1, 5 and 15 "
                    "minutes, before the run). What the host does not say is null."},
                   {"outcome",
                    "result (\"succeeded\", \"stopped\" or \"failed\"), reason, vcpus (a sentence "
                    "for each), console (what the guest wrote)."},
                   {"snapshot_ns", "What taking the snapshot took; 0 if it never was."},
                   {"totals",
                    "Sums over all rounds since the snapshot: rounds, duration_ns, dirty_pages, "
                    "changed_pages, hot_pages (no sum: after the last round), rounds_everything "
                    "(after which, entries having been lost, every page counted as dirty); with "
                    "--verify rounds_verified; with rings ring_full_exits; guest_ns, harvest_ns "
                    "and rearm_ns or collect_ns, copy_ns, state_ns, verify_ns with --verify, "
                    "rest_ns."},
                   {"intervals",
                    "For each: end_ns since the guest's start, and as in totals, of the rounds "
                    "that ended in it."}}}},
        .examples = {{"dirtyring reset writer --param working_set=4M --param writes=1000",
                      "resets a guest that writes a thousand times in a round."},
                     {"dirtyring reset ./my-guest --verify --rounds 1000",
                      "sees whether a guest of one's own is restored in full."},
                     {"dirtyring reset hash_table --track bitmap --seconds 10 --json reset.json",
                      "keeps the figures, with tracking by bitmap."}},
        .exit_status =
            {{"0", "The guest made its rounds, or was stopped by --seconds or a signal."},
             {"1",
              "The guest ended or faulted, was not as in the snapshot after a reset, a file cannot "
              "be read or written, or KVM cannot be used. Files that are asked for are written "
              "whole or not at all."},
             {"2", "The command line is wrong."}},
        .see_also = {"dirtyring(1)", "dirtyring-run(1)", "dirtyring-bench-reset(1)",
                     "dirtyring-probe(1)"},
    };
}

}  // namespace

Command add_reset(CLI::App& parent) {
    CLI::App* const app = parent.add_subcommand("reset");
    set_manual(*app, resets_manual());
    const auto command = std::make_shared<ResetCommand>();
    ResetCommand& c = *command;
    add_guest_options(*app, c.guest);
    add_count(*app, "--interval", "MS",
              "Length of an interval in milliseconds, 1 to 3600000; the default is 200.",
              c.interval, 1, 3600000);
    CLI::Option* const seconds = add_parsed(
        *app, "--seconds", "S", "Stops the guest after so long, instead of after so many rounds.",
        [&c](const std::string& text) {
            return parse_seconds(text).map(
                [&c](std::chrono::nanoseconds value) { c.length = value; });
        });
    add_count(*app, "--rounds", "N",
              "Rounds to make and reset, not counting those before the snapshot; the default is "
              "10000.",
              c.rounds, 1, ~std::uint64_t{0})
        ->excludes(seconds);
    app->add_flag("--verify", c.verify,
                  "Compares all memory and all state with the snapshot after each reset, and ends "
                  "with an error that says what is different.");
    app->add_option("--json", c.json, "Writes the summary and all intervals as JSON.")
        ->type_name("FILE");
    return {app, [command] { return run_resets(*command); }};
}

}  // namespace dirtyring::cli
