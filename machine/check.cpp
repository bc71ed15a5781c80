// SPDX-License-Identifier: MIT
#include "check.hpp"

#include <string>

#include "../guests/abi.hpp"

namespace dirtyring::machine {

namespace {

tl::unexpected<Error> refuse(std::string operation, std::string cause, std::string remedy) {
    return fail({0, std::move(operation), std::move(cause), std::move(remedy)});
}

std::string mebibytes(std::uint64_t bytes) {
    const std::uint64_t rest = bytes & ((std::uint64_t{1} << 20) - 1);
    return std::to_string(bytes >> 20) + " MiB" +
           (rest == 0 ? "" : " and " + std::to_string(rest) + " bytes");
}

Result<void> check_memory(std::uint64_t bytes) {
    const std::string operation = "make a machine with " + mebibytes(bytes) + " of memory";
    if (bytes < min_memory || bytes > max_memory) {
        return refuse(operation,
                      "guest memory is " + mebibytes(min_memory) + " to " + mebibytes(max_memory),
                      "use " + mebibytes(bytes < min_memory ? min_memory : max_memory));
    }
    if (bytes % memory_granule != 0) {
        const std::uint64_t above = (bytes / memory_granule + 1) * memory_granule;
        return refuse(operation, "guest memory is a multiple of " + mebibytes(memory_granule),
                      "use " + mebibytes(above));
    }
    return {};
}

Result<void> check_params(const std::vector<std::pair<std::string, std::string>>& params) {
    if (params.size() > guest_abi::max_params) {
        return refuse("give a guest " + std::to_string(params.size()) + " parameters",
                      "it takes at most " + std::to_string(guest_abi::max_params),
                      "leave some out");
    }
    constexpr std::size_t max_name = sizeof(guest_abi::Param::name) - 1;
    constexpr std::size_t max_value = sizeof(guest_abi::Param::value) - 1;
    for (const auto& [name, value] : params) {
        const std::string operation = "give a guest the parameter \"" + name + "\"";
        if (name.empty() || name.size() > max_name) {
            return refuse(operation,
                          "its name has " + std::to_string(name.size()) + " bytes, not 1 to " +
                              std::to_string(max_name),
                          "use a name that the guest knows");
        }
        if (value.size() > max_value) {
            return refuse(operation,
                          "its value has " + std::to_string(value.size()) + " bytes, more than " +
                              std::to_string(max_value),
                          "use a shorter value");
        }
        if (name.find('\0') != std::string::npos || value.find('\0') != std::string::npos) {
            return refuse(operation, "a NUL byte is in it", "leave it out");
        }
    }
    return {};
}

}  // namespace

Result<void> check(const Config& config) {
    if (config.vcpus < 1 || config.vcpus > max_vcpus) {
        return refuse("make a machine with " + std::to_string(config.vcpus) + " vCPUs",
                      "it has 1 to " + std::to_string(max_vcpus),
                      "use " + std::to_string(config.vcpus < 1 ? 1 : max_vcpus));
    }
    if (Result<void> checked = check_memory(config.memory); !checked) {
        return checked;
    }
    if (!config.filled.empty() && config.filled.size() != config.memory) {
        return refuse("make a machine with " + mebibytes(config.memory) + " of memory",
                      "that which is given has " + mebibytes(config.filled.size()),
                      "give as much as the machine has");
    }
    if (config.manual_protect && config.ring_entries != 0) {
        return refuse("make a machine with a dirty ring and a manually protected bitmap",
                      "a VM with rings has no bitmap", "choose one of them");
    }
    if (config.privilege != 3 && config.privilege != 0) {
        return refuse(
            "make a machine whose guest starts in ring " + std::to_string(config.privilege),
            "it starts in ring 3 or ring 0", "use 3");
    }
    return check_params(config.params);
}

Result<void> check_vcpus(const kvm::Vm& vm, const Config& config) {
    Result<int> most = vm.check_extension(KVM_CAP_MAX_VCPUS);
    if (!most) {
        return fail(std::move(most.error()));
    }
    // 0: not a KVM that says it; it has the number that api.rst 4.7 gives for those.
    constexpr int unsaid = 4;
    const auto limit = static_cast<std::uint32_t>(*most == 0 ? unsaid : *most);
    if (config.vcpus > limit) {
        return refuse("make a machine with " + std::to_string(config.vcpus) + " vCPUs",
                      "this host's KVM allows " + std::to_string(limit),
                      "use " + std::to_string(limit));
    }
    return {};
}

}  // namespace dirtyring::machine
