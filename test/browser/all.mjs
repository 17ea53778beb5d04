import "./call.test.mjs";
import "./check_page.test.mjs";
import "./voice.test.mjs";
