// The PLL of an ECP5 as far as a simulation needs it: the clock as it is, locked from the beginning.
module EHXPLLL(input CLKI, CLKFB, RST, STDBY, ENCLKOP, output CLKOP, LOCK);
  parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 8, CLKOP_CPHASE = 0;
  parameter CLKOP_ENABLE = "ENABLED", FEEDBK_PATH = "CLKOP";
  assign CLKOP = CLKI;
  assign LOCK = !RST;
endmodule
