// SPDX-License-Identifier: MIT
//
// dirtyring bench: what tracking costs on this host.
#include "bench.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

#include "json_report.hpp"
#include "output_file.hpp"
#include "printable.hpp"
#include "stop_signals.hpp"

namespace dirtyring::cli {

namespace {

Tracking way_of(Track track) noexcept {
    switch (track) {
        case Track::bitmap:
            return Tracking::bitmap;
        case Track::manual:
            return Tracking::manual_bitmap;
        case Track::ring:
            break;
    }
    return Tracking::ring;
}

Manual bench_manual() {
    return {
        .page = "dirtyring-bench",
        .summary = "measure what tracking dirty pages costs on this host",
        .description = {"Runs guests in small virtual machines and measures. Each measurement is a "
                        "command, with its own --help and manual page. It prints the host that it "
                        "runs on, then its table; figures are to be compared only within one run."},
        .sections = {},
        .examples = {{"dirtyring bench overhead", "says how much slower guests run when tracked."},
                     {"dirtyring bench collect",
                      "says what asking for the dirty pages takes, by size of memory."},
                     {"dirtyring bench reset",
                      "says how fast a guest is reset to a snapshot, by several ways."}},
        .exit_status = bench_exit_status(),
        .see_also = {"dirtyring(1)", "dirtyring-bench-overhead(1)", "dirtyring-bench-collect(1)",
                     "dirtyring-bench-reset(1)", "dirtyring-probe(1)"},
    };
}

}  // namespace

const TrackingSupport& support_of(const BenchHost& host, Track track) noexcept {
    return host.kvm.tracking[static_cast<std::size_t>(way_of(track))];
}

std::string lacking(const BenchHost& host) {
    std::string lines;
    for (const Track track : tracks) {
        if (const TrackingSupport& support = support_of(host, track); !support.usable) {
            lines += fmt::format("{}: no: {}\n", name(track), support.why_not);
        }
    }
    return lines;
}

std::uint32_t bench_ring_entries(const BenchHost& host) noexcept {
    return std::min(65536U, host.kvm.vm.largest_ring());
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::ranges::nth_element(values, middle);
    return *middle;
}

Result<void> stopped(const machine::Machine& machine, const std::string& guest,
                     const std::vector<machine::End>& ends) {
    for (std::uint32_t vcpu = 0; vcpu < ends.size(); ++vcpu) {
        if (!std::holds_alternative<machine::Stopped>(ends[vcpu])) {
            const std::string how = machine::describe(vcpu, ends[vcpu]);
            std::string said = machine.console();
            std::ranges::replace(said, '\n', ' ');
            return fail({0,
                         "measure the guest " + guest,
                         printable(how.substr(0, how.find('\n'))) +
                             (said.empty() ? "" : "; it said: " + printable(said)),
                         {}});
        }
    }
    return {};
}

Result<void> run_bench(const std::string& name, const std::string& json, const Measure& measure,
                       const PictureFile& picture) {
    Interruption interruption;
    const StopSignals signals(
        {.stop = [&](int signal) { interruption.interrupt(signal); },
         .resized = [] {},
         .suspended = [](const std::function<void()>& stop_here) { stop_here(); }});
    Result<std::optional<OutputFile>> file = create_if_wanted(json);
    Result<std::optional<OutputFile>> drawing = create_if_wanted(picture.path);
    if (!file || !drawing) {
        return fail(std::move(!file ? file.error() : drawing.error()));
    }
    const Result<BenchHost> host = look_at_host();
    if (!host) {
        return fail(host.error());
    }
    Result<void> done =
        write_all(STDOUT_FILENO, host_line(*host) + lacking(*host) + "\n", "standard output");
    if (!done) {
        return done;
    }
    const Result<nlohmann::ordered_json> measured = measure(*host, interruption);
    if (!measured) {
        return fail(measured.error());
    }
    nlohmann::ordered_json document{{"format", "dirtyring bench " + name},
                                    {"version", 1},
                                    {"host", json_of(*host)},
                                    {"ways", nlohmann::ordered_json::object()},
                                    {"stopped_by", nullptr}};
    for (const Track track : tracks) {
        const TrackingSupport& support = support_of(*host, track);
        nlohmann::ordered_json& way = document["ways"][cli::name(track)];
        way["usable"] = support.usable;
        if (!support.usable) {
            way["why_not"] = support.why_not;
        }
    }
    if (const int signal = interruption.signal(); signal != 0) {
        const std::string stopper = fmt::format("SIG{}", ::sigabbrev_np(signal));
        document["stopped_by"] = stopper;
        done = write_all(STDOUT_FILENO,
                         fmt::format("\nStopped by {}: this is what had been measured.\n", stopper),
                         "standard output");
    }
    document.update(*measured);
    if (done && *file) {
        done = (*file)->finish(dump(document));
    }
    if (done && *drawing) {
        done = (*drawing)->finish(picture.draw());
    }
    return done;
}

void add_bench_options(CLI::App& app, BenchOptions& options) {
    app.add_option("--json", options.json, "Writes the host and all medians as JSON.")
        ->type_name("FILE");
    app.add_flag("--quick", options.quick,
                 "Measures less, in a few seconds: to see that it works, not to have figures.");
}

std::vector<Entry> bench_exit_status() {
    return {{"0",
             "It has measured, or was ended by Ctrl-C, SIGTERM or SIGHUP and has said what it had "
             "by then."},
            {"1",
             "KVM cannot be used, a guest failed, the wrong work was measured, or the file cannot "
             "be written. None is left half-written."},
            {"2", "The command line is wrong."}};
}

std::vector<Entry> bench_json_members() {
    return {{"format, version", "The command and 1."},
            {"host",
             "cpu_model, cpus, kernel_release, kvm_module, load_average (over 1, 5 and 15 minutes, "
             "before the measurement). What the host does not say is null."},
            {"ways",
             "\"ring\", \"bitmap\" and \"manual\", each with usable and, if it is not, why_not."},
            {"stopped_by", "The signal that ended it early, as \"SIGINT\"; otherwise null."}};
}

Command add_bench(CLI::App& parent) {
    CLI::App* const app = parent.add_subcommand("bench");
    set_manual(*app, bench_manual());
    const auto measurements = std::make_shared<std::vector<Command>>(
        std::vector{add_bench_overhead(*app), add_bench_collect(*app), add_bench_reset(*app)});
    app->require_subcommand(1);
    return {app, [measurements] {
                const auto chosen = std::ranges::find_if(
                    *measurements, [](const Command& command) { return command.app->parsed(); });
                return chosen->run();  // there is one: CLI11 requires it
            }};
}

}  // namespace dirtyring::cli
