// SPDX-License-Identifier: MIT
#include "host_line.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <utility>

#include "format.hpp"
#include "printable.hpp"

namespace dirtyring::cli {

namespace {

std::string cpu_model() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);) {
        const std::size_t colon = line.find(": ");
        if (line.starts_with("model name") && colon != std::string::npos) {
            return line.substr(colon + 2);
        }
    }
    return {};
}

std::optional<std::array<double, 3>> load_average() {
    std::array<double, 3> load{};
    if (::getloadavg(load.data(), 3) != 3) {
        return std::nullopt;
    }
    return load;
}

const std::string& or_unknown(const std::string& text) {
    static const std::string unknown = "unknown";
    return text.empty() ? unknown : text;
}

}  // namespace

Result<BenchHost> look_at_host() {
    const Result<kvm::System> system = kvm::System::open();
    if (!system) {
        return fail(system.error());
    }
    Result<HostFacilities> kvm = probe(*system);
    if (!kvm) {
        return fail(std::move(kvm.error()));
    }
    return BenchHost{cpu_model(), ::sysconf(_SC_NPROCESSORS_ONLN), load_average(), std::move(*kvm)};
}

std::string host_line(const BenchHost& host) {
    const std::string load =
        host.load_average ? fmt::format("{:.2f}", fmt::join(*host.load_average, " ")) : "unknown";
    return printable(fmt::format(
        "host: CPU {}, {}, kernel {}, KVM module {}, load average {}\n"
        "Compare figures only within one run: they depend on the host and on what else it does.\n",
        or_unknown(host.cpu_model), counted(static_cast<std::uint64_t>(host.cpus), "CPU"),
        host.kvm.kernel_release, or_unknown(host.kvm.kvm_module), load));
}

nlohmann::ordered_json json_of(const BenchHost& host) {
    nlohmann::ordered_json json{{"cpu_model", nullptr},
                                {"cpus", host.cpus},
                                {"kernel_release", host.kvm.kernel_release},
                                {"kvm_module", nullptr},
                                {"load_average", nullptr}};
    if (!host.cpu_model.empty()) {
        json["cpu_model"] = host.cpu_model;
    }
    if (!host.kvm.kvm_module.empty()) {
        json["kvm_module"] = host.kvm.kvm_module;
    }
    if (host.load_average) {
        json["load_average"] = *host.load_average;
    }
    return json;
}

}  // namespace dirtyring::cli
