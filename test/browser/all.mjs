import "./admission.test.mjs";
import "./call.test.mjs";
import "./check_page.test.mjs";
import "./stream.test.mjs";
import "./switch.test.mjs";
import "./voice.test.mjs";
