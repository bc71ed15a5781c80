// SPDX-License-Identifier: MIT
//
// The oracle for as long as one likes: runs cases with parameters at random until so many page
// writes have been followed. tools/soak builds it and runs it.
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <map>
#include <string>

#include "dirtyring/kvm/system.hpp"
#include "must.hpp"
#include "run.hpp"

namespace dirtyring::soak {
namespace {

using Clock = std::chrono::steady_clock;

volatile std::sig_atomic_t interrupted = 0;

struct Options {
    std::uint64_t writes = 100000000;
    std::uint64_t seed = 1;
    std::uint64_t minutes = 0;  // 0: no limit
};

std::string millions(std::uint64_t number) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f M", static_cast<double>(number) / 1e6);
    return text;
}

std::string duration(double seconds) {
    const auto whole = static_cast<std::uint64_t>(seconds + 0.5);
    char text[32];
    std::snprintf(text, sizeof text, "%u:%02u:%02u", static_cast<unsigned>(whole / 3600),
                  static_cast<unsigned>(whole / 60 % 60), static_cast<unsigned>(whole % 60));
    return text;
}

/// What has been done of it: a bar at the bottom of a terminal, nothing elsewhere.
class Bar {
  public:
    explicit Bar(std::uint64_t wanted) : wanted_(wanted) {}

    void draw(std::uint64_t writes, std::uint64_t lost, std::uint64_t cases) {
        const Clock::time_point now = Clock::now();
        if (!terminal_ || now < next_) {
            return;
        }
        next_ = now + std::chrono::milliseconds(200);
        const double seconds = std::chrono::duration<double>(now - start_).count();
        const double rate = static_cast<double>(writes) / std::max(seconds, 0.001);
        const double share =
            std::min(1.0, static_cast<double>(writes) / static_cast<double>(wanted_));
        constexpr std::size_t width = 24;
        const auto done = static_cast<std::size_t>(share * width);
        std::string line = "[" + std::string(done, '#') + std::string(width - done, '-') + "] " +
                           std::to_string(static_cast<int>(share * 100)) + " %  " +
                           millions(writes) + " page writes, " +
                           millions(static_cast<std::uint64_t>(rate)) + "/s, ";
        if (rate > 0) {
            line += duration((1 - share) * static_cast<double>(wanted_) / rate) + " left, ";
        }
        line += std::to_string(lost) + " lost, case " + std::to_string(cases);
        winsize size{};
        // SAFETY: a winsize, which is what TIOCGWINSZ fills.
        if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1) {
            line.resize(std::min<std::size_t>(line.size(), size.ws_col - 1U));
        }
        std::cout << "\r\033[K" << line << std::flush;
    }
    /// Before other lines are written.
    void clear() {
        if (terminal_) {
            std::cout << "\r\033[K";
            next_ = {};
        }
    }

  private:
    std::uint64_t wanted_;
    Clock::time_point start_ = Clock::now();
    Clock::time_point next_;
    bool terminal_ = ::isatty(STDOUT_FILENO) != 0;
};

void tell_how_to_repeat(const Case& what) {
    const char* scale = std::getenv("DIRTYRING_TEST_SCALE");
    std::cout << "this case again: "
              << (scale == nullptr ? "" : std::string("DIRTYRING_TEST_SCALE=") + scale + " ")
              << "tools/soak --seed " << what.seed << " --writes 1\n";
}

/// True where no page was lost.
bool soak(const Options& options) {
    const HostFacilities host = must(probe(must(kvm::System::open())));
    const Clock::time_point start = Clock::now();
    const auto over = [&] {
        return interrupted != 0 || (options.minutes != 0 &&
                                    Clock::now() - start >= std::chrono::minutes(options.minutes));
    };
    std::cout << "soak: " << options.writes << " page writes, seed " << options.seed << ", on "
              << host.kvm_module << " of Linux " << host.kernel_release << "\n";
    Bar bar(options.writes);
    Outcome all;
    std::uint64_t cases = 0;
    for (; all.writes < options.writes && all.seen.lost == 0 && !over(); ++cases) {
        const Case what = random_case(options.seed + cases, host);
        bar.clear();
        std::cout << "seed " << what.seed << ": " << describe(what) << std::endl;
        const Clock::time_point begin = Clock::now();
        Outcome outcome;
        try {
            outcome = run(what, DIRTYRING_GUESTS, [&](std::uint64_t writes) {
                bar.draw(all.writes + writes, all.seen.lost, cases + 1);
                return !over();
            });
        } catch (...) {
            bar.clear();
            tell_how_to_repeat(what);
            throw;
        }
        bar.clear();
        std::cout << "  " << outcome.writes << " page writes, " << outcome.checks << " checks, "
                  << outcome.seen.epochs << " epochs, " << outcome.seen.everything
                  << " of everything, " << outcome.seen.lost << " lost, "
                  << duration(std::chrono::duration<double>(Clock::now() - begin).count())
                  << std::endl;
        all.add(outcome);
        if (outcome.seen.lost != 0) {
            for (const std::string& loss : outcome.seen.losses) {
                std::cout << "lost: " << loss << "\n";
            }
            tell_how_to_repeat(what);
        }
    }
    std::cout << describe(all) << "\n"
              << cases << " cases in "
              << duration(std::chrono::duration<double>(Clock::now() - start).count()) << std::endl;
    return all.seen.lost == 0;
}

int main(int argc, char** argv) {
    CLI::App app(
        "Follows a guest's page writes with an oracle, in cases with parameters at random: "
        "guests, sources, rings, consumers, slots and vCPUs that come and go, signals. "
        "After each epoch all of guest memory is compared; a page that changed and was not "
        "reported is a failure. Exit status: 0 none was lost, 1 one was, or something "
        "does not work, 2 the command line is wrong, 130 it was interrupted.",
        "soak");
    Options options;
    constexpr auto most = std::numeric_limits<std::int64_t>::max();
    app.add_option("--writes", options.writes,
                   "End after the case in which so many page writes have been followed; K, M and G "
                   "stand for thousands, millions and billions (default 100M).")
        ->option_text("N")
        ->transform(CLI::AsNumberWithUnit(
            std::map<std::string, std::uint64_t>{{"K", 1000}, {"M", 1000000}, {"G", 1000000000}},
            CLI::AsNumberWithUnit::CASE_SENSITIVE))
        ->check(CLI::Range(std::int64_t{1}, most));
    app.add_option("--seed", options.seed,
                   "Parameters of the first case; each further one has the next seed.")
        ->option_text("N (default 1)");
    app.add_option("--minutes", options.minutes, "End after so many minutes at the latest.")
        ->option_text("N")
        ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help();
        return 0;
    } catch (const CLI::ParseError& error) {
        std::cerr << "soak: " << error.what() << " (see --help)\n";
        return 2;
    }
    // Ctrl-C: a last check, then the sum. Once more: at once.
    struct sigaction action{};
    action.sa_handler = [](int) { interrupted = 1; };
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    ::sigemptyset(&action.sa_mask);
    ::sigaction(SIGINT, &action, nullptr);
    try {
        if (!soak(options)) {
            return 1;
        }
        return interrupted != 0 ? 128 + SIGINT : 0;
    } catch (const std::exception& error) {
        std::cerr << "soak: " << error.what() << "\n";
        return 1;
    }
}

}  // namespace
}  // namespace dirtyring::soak

int main(int argc, char** argv) {
    return dirtyring::soak::main(argc, argv);
}
