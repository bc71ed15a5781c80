// SPDX-License-Identifier: MIT
#pragma once

#include <gtest/gtest.h>

#include <optional>

#include "dirtyring/kvm/system.hpp"
#include "must.hpp"

namespace dirtyring {

/// A test that needs /dev/kvm; it is skipped, and says so, where there is none.
class KvmTest : public ::testing::Test {
  protected:
    void SetUp() override {
        Result<kvm::System> opened = kvm::System::open();
        if (!opened) {
            GTEST_SKIP() << "needs KVM: " << opened.error().message();
        }
        system_.emplace(std::move(*opened));
    }

    [[nodiscard]] const kvm::System& system() const { return *system_; }
    /// Whether this host's KVM has a capability.
    [[nodiscard]] bool has(int capability) const {
        return must(system_->check_extension(capability)) > 0;
    }

  private:
    std::optional<kvm::System> system_;
};

}  // namespace dirtyring
