// The verilated design under its clock.

#pragma once

#include "Vchip.h"

// The model's evaluation proper. Vchip::eval() adds clean-up for multi-threaded models: mutexes that take a
// sixth to two thirds of the time and have nothing to protect here.
void Vchip___024root___eval(Vchip___024root* root);

namespace harness {

// The design comes wrapped in its power-on reset (see harness.py), which is over by then.
constexpr int kResetCycles = 16;

class Clocked {
  protected:
    // To be called once, with inputs that the design may see during its reset.
    void start() {
        model_.eval();  // runs the design's initial blocks, which half_cycle() does not
        for (int cycle = 0; cycle < kResetCycles; ++cycle) {
            half_cycle(0);
            half_cycle(1);
        }
    }

    void half_cycle(int clk) {
        model_.clk = static_cast<CData>(clk);
        Vchip___024root___eval(model_.rootp);
    }

  private:
    VerilatedContext context_;

  protected:
    Vchip model_{&context_};
};

}  // namespace harness
